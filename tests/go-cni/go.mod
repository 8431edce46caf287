module ferrule.io/tests/go-cni

go 1.24

require github.com/containerd/go-cni v1.1.6

require github.com/containernetworking/cni v1.1.1 // indirect

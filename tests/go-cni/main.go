// A container runtime's side of CNI by the library that containerd 1.6 links (go-cni v1.1.6, CNI <= 1.0), called as its CRI
// plugin calls it: a loopback and the first configuration of a folder, names of the pod as CNI_ARGS.
//
// go-cni CONF_DIR PLUGIN_DIR:PLUGIN_DIR setup|remove ID NETNS NAMESPACE NAME UID
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	gocni "github.com/containerd/go-cni"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(words []string) error {
	if len(words) != 8 {
		return fmt.Errorf("wrong number of arguments")
	}
	plugin, err := gocni.New(
		gocni.WithMinNetworkCount(2),
		gocni.WithPluginConfDir(words[0]),
		gocni.WithPluginDir(filepath.SplitList(words[1])),
		gocni.WithInterfacePrefix("eth"),
	)
	if err != nil {
		return err
	}
	if err := plugin.Load(gocni.WithLoNetwork, gocni.WithDefaultConf); err != nil {
		return err
	}
	if err := plugin.Status(); err != nil {
		return err
	}
	id, netns := words[3], words[4]
	labels := gocni.WithLabels(map[string]string{
		"K8S_POD_NAMESPACE":          words[5],
		"K8S_POD_NAME":               words[6],
		"K8S_POD_INFRA_CONTAINER_ID": id,
		"K8S_POD_UID":                words[7],
		"IgnoreUnknown":              "1",
	})
	ctx := context.Background()
	switch words[2] {
	case "setup":
		result, err := plugin.Setup(ctx, id, netns, labels)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(result.Interfaces)
	case "remove":
		return plugin.Remove(ctx, id, netns, labels)
	default:
		return fmt.Errorf("unknown command %q", words[2])
	}
}

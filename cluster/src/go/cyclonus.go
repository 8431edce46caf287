// Cyclonus' cases, all of them, one JSON line a case. Its own command has no way to go on where it stopped, and asks every pair by an exec of
// its own; the cases, the engine and the comparison are its library's, as is the worker that a pod asks all others with in one exec.
// Pairs are asked at the pod's address, as with its option --destination-type=pod-ip; a pod is not asked by itself, as with --ignore-loopback:
// what a pod says to its own address never leaves it, and Kubernetes does not say that a policy must keep it back.
// Arguments: a file with the names of the cases to leave out.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/mattfenwick/cyclonus/pkg/connectivity"
	"github.com/mattfenwick/cyclonus/pkg/connectivity/probe"
	"github.com/mattfenwick/cyclonus/pkg/generator"
	"github.com/mattfenwick/cyclonus/pkg/kube"
	"github.com/sirupsen/logrus"
	v1 "k8s.io/api/core/v1"
	clientset "k8s.io/client-go/kubernetes"
)

type line struct {
	Total int    `json:"total,omitempty"`
	Case  string `json:"case,omitempty"`
	State string `json:"state,omitempty"`
	Wrong int    `json:"wrong"`
	Right int    `json:"right"`
	Error string `json:"error,omitempty"`
	// Its steps together.
	Seconds int `json:"seconds,omitempty"`
}

func say(said line) {
	text, _ := json.Marshal(said)
	fmt.Printf("case %s\n", text)
}

func check(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "error: %+v\n", err)
		os.Exit(1)
	}
}

func main() {
	logrus.SetLevel(logrus.WarnLevel)
	leave := map[string]bool{}
	if len(os.Args) > 1 {
		text, err := os.ReadFile(os.Args[1])
		check(err)
		for _, name := range strings.Split(string(text), "\n") {
			leave[name] = true
		}
	}
	kubernetes, err := kube.NewKubernetesForContext("")
	check(err)
	// Its client asks five times a second at most, which is most of what a case takes.
	kubernetes.RestConfig.QPS, kubernetes.RestConfig.Burst = 200, 400
	kubernetes.ClientSet, err = clientset.NewForConfig(kubernetes.RestConfig)
	check(err)
	namespaces := []string{"x", "y", "z"}
	protocols := []v1.Protocol{v1.ProtocolTCP, v1.ProtocolUDP, v1.ProtocolSCTP}
	const batches = true
	resources, err := probe.NewDefaultResources(
		kubernetes, namespaces, []string{"a", "b", "c"}, []int{80, 81}, protocols, nil, 180, batches, "registry.k8s.io")
	check(err)
	interpreter := connectivity.NewInterpreter(kubernetes, resources, &connectivity.InterpreterConfig{
		ResetClusterBeforeTestCase:       true,
		VerifyClusterStateBeforeTestCase: true,
		KubeProbeRetries:                 1,
		PerturbationWaitSeconds:          1,
		BatchJobs:                        batches,
		JobTimeoutSeconds:                1,
		IgnoreLoopback:                   true,
	})
	printer := connectivity.Printer{IgnoreLoopback: true}
	last, err := resources.GetPod("z", "c")
	check(err)
	cases := generator.NewTestCaseGenerator(true, last.IP, namespaces, nil, nil).GenerateTestCases()
	say(line{Total: len(cases)})
	for index, one := range cases {
		name := fmt.Sprintf("%03d %s", index+1, one.Description)
		if leave[name] {
			continue
		}
		for _, step := range one.Steps {
			// Services over SCTP are not there, and names would be asked for by each of 486 pairs.
			step.Probe.Mode = generator.ProbeModePodIP
		}
		began := time.Now()
		result := interpreter.ExecuteTestCase(one)
		said := line{Case: name, State: "passed"}
		for _, step := range result.Steps {
			counts := step.LastComparison().ValueCounts(true)
			said.Wrong += counts[connectivity.DifferentComparison]
			said.Right += counts[connectivity.SameComparison]
		}
		said.Seconds = int(time.Since(began).Seconds())
		if result.Err != nil {
			said.State, said.Error = "failed", result.Err.Error()
		} else if said.Wrong > 0 {
			said.State = "failed"
			printer.PrintTestCaseResult(result)
		}
		say(said)
	}
}

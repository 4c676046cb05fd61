package kubelets

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/proctest"
)

const (
	bounded = `
apiVersion: v1
kind: Pod
metadata:
  name: bounded
  namespace: shop
  annotations: {kubernetes.io/ingress-bandwidth: 8M, kubernetes.io/egress-bandwidth: 8M}
spec:
  nodeName: node2
  terminationGracePeriodSeconds: 1
  containers: [{name: bounded, image: "localhost/damask-test:dev"}]
`
	// slow is what no transfer of the bounded pod comes to: its 8 Mbit/s, and what a
	// bucket that was full adds to a short transfer.
	slow = 12e6
	// fast is what every transfer comes to that has no bound of 8 Mbit/s.
	fast = 2 * slow
)

// bits sends two megabytes by TCP to an address of another place, and answers how many bits
// a second arrived there.
func (p place) bits(t *testing.T, to place, address string) float64 {
	t.Helper()
	const port = "5201"
	server := proctest.Start(t, to.command("iperf3", "--server", "--one-off", "--bind", address, "--port", port))
	defer server.Kill()
	for until := time.Now().Add(limit); ; time.Sleep(step) {
		out, err := p.command("iperf3", "--client", address, "--port", port, "--bytes", "2M", "--json").Output()
		var seen struct {
			End struct {
				Received struct {
					Bits float64 `json:"bits_per_second"`
				} `json:"sum_received"`
			} `json:"end"`
		}
		if err == nil {
			err = json.Unmarshal(out, &seen)
		}
		if err == nil {
			return seen.End.Received.Bits
		}
		if time.Now().After(until) { // At first nobody listens.
			t.Fatalf("from %s to %s: %v\n%s", p.name, to.name, err, out)
		}
	}
}

// podsAreAsFastAsTheySay bounds a pod by its annotations from its start, and changes one
// and takes away both while it runs.
func (s *shop) podsAreAsFastAsTheySay(t *testing.T) {
	s.Apply(t, bounded)
	s.wait(t, "-n", "shop", "pod/bounded", "--for=condition=Ready")
	ip := s.podIP(t, "bounded")
	network, err := s.nodes[1].podNetwork(ip)
	if err != nil {
		t.Fatal(err)
	}
	pod := place{name: "bounded", network: network}
	to := func() float64 { return s.client.bits(t, pod, ip) }
	from := func() float64 { return pod.bits(t, s.client, s.clientIP) }
	stays := func(direction string, measure func() float64) {
		t.Helper()
		if got := measure(); got > slow {
			t.Errorf("%s the pod went %s, want no more than its 8", direction, mega(got))
		}
	}
	becomes := func(direction string, measure func() float64) {
		t.Helper()
		var got float64
		for until := time.Now().Add(limit); time.Now().Before(until); {
			if got = measure(); got > fast {
				t.Logf("%s the pod goes %s now", direction, mega(got))
				return
			}
		}
		t.Errorf("%s the pod goes %s still", direction, mega(got))
	}
	stays("to", to)
	stays("from", from)
	s.Kubectl(t, "annotate", "pod", "bounded", "-n", "shop", "--overwrite", "kubernetes.io/egress-bandwidth=800M")
	becomes("from", from)
	stays("to", to)
	s.Kubectl(t, "annotate", "pod", "bounded", "-n", "shop", "kubernetes.io/egress-bandwidth-", "kubernetes.io/ingress-bandwidth-")
	becomes("to", to)
	becomes("from", from)
}

func mega(bits float64) string { return fmt.Sprintf("%.1f Mbit/s", bits/1e6) }

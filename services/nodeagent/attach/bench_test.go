package attach_test

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/proctest"
)

// referencePlugins is where Debian puts the CNI project's plugins.
const referencePlugins = "/usr/lib/cni"

// BenchmarkAddBesideReference measures CNI ADD, from the start of the plugin's
// process to its end, beside the reference plugin `bridge` with `host-local`, in
// turns: both meet the same machine. It reports the medians and their ratio.
func BenchmarkAddBesideReference(b *testing.B) {
	proctest.Need(b, filepath.Join(referencePlugins, "bridge"), filepath.Join(referencePlugins, "host-local"))
	n := newNode(b)
	n.serveHere(b, nil)
	ours := contender{
		plugin: filepath.Join(buildPlugin(b), "damask-cni"), ns: n.ns,
		config: fmt.Sprintf(`{"cniVersion":"1.0.0","name":"damask","type":"damask-cni","socket":%q}`, n.place.Socket),
	}
	theirs := contender{
		plugin: filepath.Join(referencePlugins, "bridge"), ns: netnstest.New(b, "reference"),
		config: fmt.Sprintf(`{"cniVersion":"1.0.0","name":"reference","type":"bridge","bridge":"cni0","isGateway":true,"mtu":%d,
			"ipam":{"type":"host-local","subnet":"10.99.0.0/23","dataDir":%q,"routes":[{"dst":"0.0.0.0/0"}]}}`, mtu, b.TempDir()),
	}
	// The first call of each makes what is there once for all: cni0, caches.
	for _, c := range []*contender{&ours, &theirs} {
		c.round(b, -1)
		c.add, c.del = nil, nil
	}
	i := 0
	for b.Loop() {
		ours.round(b, i)
		theirs.round(b, i)
		i++
	}
	b.ReportMetric(0, "ns/op") // the sum of both says nothing
	b.ReportMetric(milliseconds(ours.add), "damask-add-ms")
	b.ReportMetric(milliseconds(theirs.add), "bridge-add-ms")
	b.ReportMetric(milliseconds(ours.add)/milliseconds(theirs.add), "add-ratio")
	b.ReportMetric(milliseconds(ours.del), "damask-del-ms")
	b.ReportMetric(milliseconds(theirs.del), "bridge-del-ms")
}

// contender is a plugin, the namespace of its node, and how long it took.
type contender struct {
	plugin, config string
	ns             *netnstest.Namespace
	add, del       []time.Duration
}

// round adds and deletes one fresh sandbox.
func (c *contender) round(b *testing.B, i int) {
	b.Helper()
	b.StopTimer()
	pod := netnstest.New(b, "pod")
	b.StartTimer()
	c.add = append(c.add, c.run(b, "ADD", i, pod))
	c.del = append(c.del, c.run(b, "DEL", i, pod))
}

func (c *contender) run(b *testing.B, command string, i int, pod *netnstest.Namespace) (took time.Duration) {
	b.Helper()
	var out bytes.Buffer
	var err error
	c.ns.Do(b, func() { // a child is born where its parent's thread is
		cmd := exec.Command(c.plugin)
		cmd.Env = []string{
			"CNI_COMMAND=" + command, fmt.Sprintf("CNI_CONTAINERID=bench%d", i+1), "CNI_NETNS=" + pod.Path(), "CNI_IFNAME=eth0",
			"CNI_PATH=" + referencePlugins, "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web",
		}
		cmd.Stdin, cmd.Stdout = bytes.NewReader([]byte(c.config)), &out
		start := time.Now()
		err = cmd.Run()
		took = time.Since(start)
	})
	if err != nil {
		b.Fatalf("%s %s: %v\n%s", c.plugin, command, err, out.String())
	}
	return took
}

// milliseconds is the median.
func milliseconds(all []time.Duration) float64 {
	all = slices.Clone(all)
	slices.Sort(all)
	return float64(all[len(all)/2].Microseconds()) / 1000
}

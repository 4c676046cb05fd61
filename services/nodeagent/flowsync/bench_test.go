package flowsync_test

import (
	"context"
	"os/exec"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/ovstest"
	"github.com/damask-sdn/damask/services/nodeagent/flowsync"
	"github.com/damask-sdn/damask/services/nodeagent/flowsync/flowbench"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// bridge is an empty bridge of a switch of its own, with a Syncer that has compared it.
func bridge(b testing.TB) flowbench.Bridge {
	b.Helper()
	ovs := ovstest.Start(b, ovstest.Options{})
	ovs.AddBridge(b, "br0")
	s := flowsync.New(flowsync.Config{Socket: ovs.MgmtSocket("br0")}, hclog.NewNullLogger())
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		<-done
	})
	if _, err := s.Reconcile(ctx, map[string][]openflow.Flow{}); err != nil {
		b.Fatal(err)
	}
	return flowbench.Bridge{Name: "br0", Flows: s, Dir: b.TempDir(), Ofctl: func(args ...string) *exec.Cmd {
		// Without the nsenter of ovs.Command: its start would be counted as ovs-ofctl's. A unix socket needs no namespace.
		cmd := exec.CommandContext(b.Context(), "ovs-ofctl", append([]string{"-O", "OpenFlow13"}, args...)...)
		cmd.Env = ovs.Env()
		return cmd
	}}
}

// report makes the ratio, and the two times, a benchmark's result.
func report(b *testing.B, compare func(rounds int) (flowbench.Comparison, error)) {
	b.Helper()
	c, err := compare(b.N)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(c.Ours.Microseconds()), "us-ours")
	b.ReportMetric(float64(c.Theirs.Microseconds()), "us-ofctl")
	b.ReportMetric(c.Ratio(), "ratio")
}

func BenchmarkOneChange(b *testing.B) {
	br := bridge(b)
	report(b, func(rounds int) (flowbench.Comparison, error) { return br.OneChange(b.Context(), 10_000, rounds) })
}

func BenchmarkInstall10k(b *testing.B) {
	br := bridge(b)
	report(b, func(rounds int) (flowbench.Comparison, error) { return br.Install(b.Context(), 10_000, rounds) })
}

func BenchmarkInstall100k(b *testing.B) {
	br := bridge(b)
	report(b, func(rounds int) (flowbench.Comparison, error) { return br.Install(b.Context(), 100_000, rounds) })
}

func BenchmarkNoChange10k(b *testing.B) {
	br := bridge(b)
	report(b, func(rounds int) (flowbench.Comparison, error) { return br.NoChange(b.Context(), 10_000, rounds) })
}

func BenchmarkNoChange100k(b *testing.B) {
	br := bridge(b)
	report(b, func(rounds int) (flowbench.Comparison, error) { return br.NoChange(b.Context(), 100_000, rounds) })
}

func TestBothSidesOfTheBenchmarksDoTheSame(t *testing.T) {
	br := bridge(t)
	for what, compare := range map[string]func() (flowbench.Comparison, error){
		"one change": func() (flowbench.Comparison, error) { return br.OneChange(t.Context(), 100, 3) },
		"install":    func() (flowbench.Comparison, error) { return br.Install(t.Context(), 100, 3) },
		"no change":  func() (flowbench.Comparison, error) { return br.NoChange(t.Context(), 100, 3) },
	} {
		c, err := compare()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if c.Ours <= 0 || c.Theirs <= 0 {
			t.Errorf("%s: measured nothing: %s", what, c)
		}
		if n := br.Flows.Size(); n != 0 {
			t.Errorf("%s: %d flows are left", what, n)
		}
	}
}

// Package flowbench measures programming a bridge through flowsync against ovs-ofctl doing the same, in the same run and
// turn by turn, so that their ratio says something on any machine.
//
// It promises that both sides end with the same flows, and leaves the bridge empty. It must only be pointed at a bridge
// that carries nothing. Used by flowsync's benchmarks and by the project's bench table.
package flowbench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/damask-sdn/damask/services/nodeagent/flowsync"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// Bridge is the bridge to measure on.
type Bridge struct {
	Name  string                         // Such as br0.
	Flows *flowsync.Syncer               // Running, and connected to the bridge.
	Ofctl func(args ...string) *exec.Cmd // ovs-ofctl, with OpenFlow 1.3, on the bridge's switch.
	Dir   string                         // For ovs-ofctl's files of flows.
}

// Comparison is the medians of two ways to do the same.
type Comparison struct {
	Name   string
	Flows  int           // In the bridge.
	Ours   time.Duration // Through flowsync.
	Theirs time.Duration // By ovs-ofctl.
}

// Ratio is how many times faster we are.
func (c Comparison) Ratio() float64 { return float64(c.Theirs) / float64(c.Ours) }

// String is one line for people.
func (c Comparison) String() string {
	return fmt.Sprintf("%-40s %10v  ovs-ofctl %10v  ratio %.1f", c.Name, c.Ours.Round(time.Microsecond), c.Theirs.Round(time.Microsecond), c.Ratio())
}

const owner = "bench"

// Pods are n flows of the shape of table 70, one a pod.
func Pods(n int) []openflow.Flow {
	flows := make([]openflow.Flow, n)
	for i := range flows {
		addr := netip.AddrFrom4([4]byte{10, byte(128 + i>>16), byte(i >> 8), byte(i)})
		flows[i] = openflow.Flow{
			Table: 70, Priority: 100, Match: openflow.IP().IPDst(netip.PrefixFrom(addr, 32)),
			Actions: []openflow.Action{openflow.LoadReg(1, uint32(i)), openflow.LoadReg(2, uint32(i)+3), openflow.Goto(80)},
		}
	}
	return flows
}

// OneChange changes the actions of one flow among present others, against starting ovs-ofctl add-flow.
func (b Bridge) OneChange(ctx context.Context, present, rounds int) (Comparison, error) {
	c := Comparison{Name: "one flow change", Flows: present}
	err := b.around(ctx, present, func() error {
		var ours, theirs []time.Duration
		flow := openflow.Flow{Table: 71, Priority: 100, Match: openflow.Any().Reg(0, 7)}
		for i := range rounds {
			flow.Actions = []openflow.Action{openflow.LoadReg(1, uint32(i)+1), openflow.Goto(80)}
			our, err := timed(func() error {
				return b.Flows.Apply(ctx, flowsync.Change{Owner: "change", Flows: []openflow.Flow{flow}})
			})
			if err != nil {
				return err
			}
			text := fmt.Sprintf("cookie=%#x,table=72,priority=100,reg0=0x7,actions=load:%#x->NXM_NX_REG1[],goto_table:80", 7, i+1)
			their, err := timed(func() error { return b.ofctl("add-flow", b.Name, text) })
			if err != nil {
				return err
			}
			ours, theirs = append(ours, our), append(theirs, their)
		}
		c.Ours, c.Theirs = median(ours), median(theirs)
		return nil
	})
	return c, err
}

// Install puts n flows into the empty bridge in one bundle, against ovs-ofctl --bundle add-flows.
func (b Bridge) Install(ctx context.Context, n, rounds int) (Comparison, error) {
	c := Comparison{Name: fmt.Sprintf("%d flows in a bundle", n), Flows: n}
	file, err := b.file(n)
	if err != nil {
		return c, err
	}
	var ours, theirs []time.Duration
	for range rounds {
		if err := b.empty(ctx); err != nil {
			return c, err
		}
		flows := Pods(n)
		our, err := timed(func() error { return b.Flows.Apply(ctx, flowsync.Change{Owner: owner, Flows: flows}) })
		if err != nil {
			return c, err
		}
		if err := b.empty(ctx); err != nil {
			return c, err
		}
		their, err := timed(func() error { return b.ofctl("--bundle", "add-flows", b.Name, file) })
		if err != nil {
			return c, err
		}
		ours, theirs = append(ours, our), append(theirs, their)
	}
	c.Ours, c.Theirs = median(ours), median(theirs)
	return c, b.empty(ctx)
}

// NoChange compares n flows that are all right, against ovs-ofctl --bundle replace-flows of the same.
func (b Bridge) NoChange(ctx context.Context, n, rounds int) (Comparison, error) {
	c := Comparison{Name: fmt.Sprintf("comparing %d flows, no change", n), Flows: n}
	file, err := b.file(n)
	if err != nil {
		return c, err
	}
	err = b.around(ctx, n, func() error {
		want := map[string][]openflow.Flow{owner: Pods(n)}
		var ours, theirs []time.Duration
		for range rounds {
			our, err := timed(func() error {
				diff, err := b.Flows.Reconcile(ctx, want)
				if err == nil && !diff.Empty() {
					err = errors.New("there was a difference")
				}
				return err
			})
			if err != nil {
				return err
			}
			their, err := timed(func() error { return b.ofctl("--bundle", "replace-flows", b.Name, file) })
			if err != nil {
				return err
			}
			ours, theirs = append(ours, our), append(theirs, their)
		}
		c.Ours, c.Theirs = median(ours), median(theirs)
		return nil
	})
	return c, err
}

// around measures with n flows present.
func (b Bridge) around(ctx context.Context, n int, measure func() error) error {
	if err := b.empty(ctx); err != nil {
		return err
	}
	if err := b.Flows.Apply(ctx, flowsync.Change{Owner: owner, Flows: Pods(n)}); err != nil {
		return err
	}
	if err := measure(); err != nil {
		return err
	}
	return b.empty(ctx)
}

func (b Bridge) empty(ctx context.Context) error {
	_, err := b.Flows.Reconcile(ctx, map[string][]openflow.Flow{})
	return err
}

// file writes what ovs-ofctl is to add: what flowsync would have in the bridge, cookies too.
func (b Bridge) file(n int) (string, error) {
	path := filepath.Join(b.Dir, fmt.Sprintf("flows-%d", n))
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	w := bufio.NewWriter(f)
	for _, flow := range Pods(n) {
		fmt.Fprintf(w, "cookie=%#x,%s\n", flowsync.Cookie(owner), strings.Replace(flow.String(), ", ", ",", 1))
	}
	return path, errors.Join(w.Flush(), f.Close())
}

func (b Bridge) ofctl(args ...string) error {
	cmd := b.Ofctl(args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}

func timed(do func() error) (time.Duration, error) {
	start := time.Now()
	err := do()
	return time.Since(start), err
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}

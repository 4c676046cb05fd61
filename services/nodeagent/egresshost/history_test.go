package egresshost_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/hashicorp/go-hclog"
	"pgregory.net/rapid"

	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	"github.com/damask-sdn/damask/services/nodeagent/egresshost"
	"github.com/damask-sdn/damask/services/nodeagent/masquerade"
)

// judged is a node of which each step is judged, and of which any step may fail.
type judged struct {
	*node
	t     *rapid.T
	told  map[uint64]*egressv1.EgressHosting
	fails func(step string) bool
}

// judge looks at what a packet could meet now.
func (j *judged) judge(after string) {
	for _, ip := range j.led {
		if !j.compared {
			break // What was told; the switch has what it had.
		}
		i := slices.IndexFunc(j.open, func(e masquerade.EgressIP) bool { return e.IP == ip })
		if i < 0 || !slices.Contains(j.rules, j.open[i]) || !slices.Contains(j.addresses, ip) {
			j.t.Fatalf("after %s flows lead to %s; open %v, translated %v, held %v", after, ip, j.open, j.rules, j.addresses)
		}
	}
	for _, ip := range j.addresses {
		if !slices.Contains(ipsOf(j.rules), ip) {
			j.t.Fatalf("after %s %s is held, and nothing refuses connections to it", after, ip)
		}
	}
	for _, e := range j.open {
		if !slices.Contains(j.rules, e) {
			j.t.Fatalf("after %s %v is open and not translated: %v", after, e, j.rules)
		}
	}
}

// step lets a step fail before it does anything, or does it and judges.
func (j *judged) step(name string, do func() error) error {
	if j.fails(name) {
		return errTold
	}
	err := do()
	j.judge(name)
	return err
}

func (j *judged) SetEgress(ctx context.Context, ips []masquerade.EgressIP) (repairs []string, err error) {
	return repairs, j.step("rules", func() error { _, err := j.node.SetEgress(ctx, ips); return err })
}

func (j *judged) Hold(ctx context.Context, wanted []netip.Addr) ([]string, error) {
	return nil, j.step("hold", func() error { _, err := j.node.Hold(ctx, wanted); return err })
}

func (j *judged) Release(ctx context.Context, keep []netip.Addr) (gone []netip.Addr, err error) {
	err = j.step("release", func() error { gone, err = j.node.Release(ctx, keep); return err })
	return gone, err
}

func (j *judged) Narrow(ctx context.Context, keep []masquerade.EgressIP) (closed []masquerade.EgressIP, err error) {
	err = j.step("close", func() error { closed, err = j.node.Narrow(ctx, keep); return err })
	return closed, err
}

func (j *judged) Set(ctx context.Context, all []masquerade.EgressIP, closing []netip.Addr) ([]string, error) {
	return nil, j.step("open", func() error { _, err := j.node.Set(ctx, all, closing); return err })
}

func (j *judged) Lead(ctx context.Context, revision uint64, ready []*egressv1.HostedAddress) error {
	return j.step("lead", func() error { return j.node.Lead(ctx, revision, ready) })
}

// confirm judges what egress is told: nothing is here that the revision does not have.
func (j *judged) confirm(revision uint64) {
	want := map[string]string{}
	for _, a := range j.told[revision].GetAddresses() {
		want[a.GetIp()] = fmt.Sprint(a.GetNetid(), a.GetSlot())
	}
	for _, ip := range slices.Concat(j.led, j.addresses, ipsOf(j.open), ipsOf(j.rules)) {
		if want[ip.String()] == "" {
			j.t.Fatalf("revision %d is confirmed, and %s is here: led %v, open %v, held %v, translated %v", revision, ip, j.led, j.open, j.addresses, j.rules)
		}
	}
	j.node.confirm(revision)
}

// TestRandomHistoriesKeepTheOrder changes what is hosted at random, with steps that fail,
// processes that end at any moment, and a switch that is away.
func TestRandomHistoriesKeepTheOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		may := false
		j := &judged{node: &node{compared: true}, t: t, told: map[uint64]*egressv1.EgressHosting{}}
		j.fails = func(step string) bool { return may && rapid.IntRange(0, 5).Draw(t, "fails "+step) == 0 }
		start := func() *egresshost.Host {
			return egresshost.New(egresshost.Config{
				Rules: j, Addresses: j, Guard: j, Flows: j, Confirm: j.confirm, Log: hclog.NewNullLogger(),
			})
		}
		h := start()
		var latest *egressv1.EgressHosting
		for step := range rapid.IntRange(1, 25).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0: // a new process, beside a switch that has what it had
				h = start()
				if latest != nil {
					h.Want(latest)
				}
			default:
				latest = &egressv1.EgressHosting{Revision: uint64(step + 1)} //nolint:gosec // few
				slots := map[uint32]uint32{}
				for _, n := range rapid.SliceOfNDistinct(rapid.IntRange(1, 5), 0, 4, rapid.ID[int]).Draw(t, "addresses") {
					vnid := rapid.SampledFrom([]uint32{42, 43}).Draw(t, "vnid")
					latest.Addresses = append(latest.Addresses, &egressv1.HostedAddress{
						Ip: fmt.Sprintf("192.0.2.%d", 100+n), Namespace: fmt.Sprint(vnid), Selection: "default", Netid: vnid, Slot: slots[vnid],
					})
					slots[vnid]++
				}
				j.told[latest.GetRevision()] = latest
				h.Want(latest)
			}
			may = true
			for range rapid.IntRange(0, 3).Draw(t, "passes") {
				_, _ = h.Audit(context.Background())
			}
			may = false
		}
		if latest == nil {
			return
		}
		for range 3 {
			if _, err := h.Audit(context.Background()); err != nil {
				t.Fatalf("nothing fails any more: %v", err)
			}
		}
		var want []string
		for _, a := range latest.GetAddresses() {
			want = append(want, a.GetIp())
		}
		for what, has := range map[string][]netip.Addr{"led to": j.led, "open": ipsOf(j.open), "held": j.addresses, "translated": ipsOf(j.rules)} {
			var texts []string
			for _, ip := range has {
				texts = append(texts, ip.String())
			}
			if slices.Sort(texts); !slices.Equal(texts, slices.Sorted(slices.Values(want))) {
				t.Fatalf("in the end %s are %q, want %q", what, texts, want)
			}
		}
		if j.confirmed != latest.GetRevision() {
			t.Fatalf("confirmed is %d, want %d", j.confirmed, latest.GetRevision())
		}
	})
}

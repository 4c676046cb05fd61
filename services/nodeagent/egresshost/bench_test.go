package egresshost_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/proctest"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	"github.com/damask-sdn/damask/services/nodeagent/egressguard"
	"github.com/damask-sdn/damask/services/nodeagent/egresshost"
	"github.com/damask-sdn/damask/services/nodeagent/egressnode"
	"github.com/damask-sdn/damask/services/nodeagent/masquerade"
)

// inside runs iptables in a namespace.
type inside struct {
	b     *testing.B
	ns    *netnstest.Namespace
	rules *masquerade.Rules
}

func (i inside) SetEgress(ctx context.Context, ips []masquerade.EgressIP) (repairs []string, err error) {
	i.ns.Do(i.b, func() { repairs, err = i.rules.SetEgress(ctx, ips) })
	return repairs, err
}

// BenchmarkEgressIPs measures what a change of a node's egress IPs costs beside its flows:
// rules, addresses and guard. A node that hosts so many takes all at once, gets one more,
// and gets a tenth more, as when another node dies; that tenth also by the commands ip
// and iptables, one address after the other.
func BenchmarkEgressIPs(b *testing.B) {
	proctest.Need(b, "iptables", "nft")
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { benchEgressIPs(b, n) })
	}
}

func benchEgressIPs(b *testing.B, count int) {
	ns := netnstest.New(b, "node")
	ns.Run(b, "ip", "link", "add", "eth0", "type", "bridge")
	ns.Run(b, "ip", "address", "add", "10.1.0.1/16", "dev", "eth0")
	ns.Run(b, "ip", "link", "set", "eth0", "up")
	clusters := []netip.Prefix{netip.MustParsePrefix("10.128.0.0/14")}
	var rules *masquerade.Rules
	var err error
	ns.Do(b, func() {
		if rules, err = masquerade.New(); err == nil {
			_, err = rules.Ensure(b.Context(), masquerade.Config{ClusterNetworks: clusters, TunnelPort: 4789})
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	guard, err := egressguard.Open(ns.Path())
	if err != nil {
		b.Fatal(err)
	}
	defer guard.Close()
	if _, err := guard.Ensure(b.Context(), egressguard.Config{ClusterNetworks: clusters}); err != nil {
		b.Fatal(err)
	}
	holder, err := egressnode.Open(egressnode.Config{Namespace: ns.Path(), NodeIP: netip.MustParseAddr("10.1.0.1")}, hclog.NewNullLogger())
	if err != nil {
		b.Fatal(err)
	}
	defer holder.Close()
	flows := &node{compared: true}
	h := egresshost.New(egresshost.Config{
		Rules: inside{b, ns, rules}, Addresses: holder, Guard: guard, Flows: flows, Confirm: func(uint64) {}, Log: hclog.NewNullLogger(),
	})
	revision := uint64(0)
	hold := func(n int) time.Duration {
		revision++
		hosting := &egressv1.EgressHosting{Revision: revision}
		for i := range n {
			hosting.Addresses = append(hosting.Addresses, &egressv1.HostedAddress{
				Ip: fmt.Sprintf("10.1.%d.%d", 1+i/250, 1+i%250), Namespace: fmt.Sprint(i), Selection: "default", Netid: uint32(10 + 2*i), //nolint:gosec // few
			})
		}
		h.Want(hosting)
		began := time.Now()
		if _, err := h.Audit(b.Context()); err != nil {
			b.Fatal(err)
		}
		return time.Since(began)
	}
	load := hold(count)
	var come, go1, tenth time.Duration
	for b.Loop() {
		come += hold(count + 1)
		go1 += hold(count)
	}
	tenth = hold(count + max(1, count/10))
	byHand := commands(b, ns, max(1, count/10))
	perRound := func(d time.Duration) float64 { return d.Seconds() * 1000 / float64(b.N) }
	b.ReportMetric(load.Seconds()*1000, "all-ms")
	b.ReportMetric(perRound(come), "one-more-ms")
	b.ReportMetric(perRound(go1), "one-less-ms")
	b.ReportMetric(tenth.Seconds()*1000, "tenth-more-ms")
	b.ReportMetric(byHand.Seconds()*1000, "tenth-by-hand-ms")
	b.ReportMetric(0, "ns/op")
}

// commands adds addresses and their two rules by hand.
func commands(b *testing.B, ns *netnstest.Namespace, n int) time.Duration {
	began := time.Now()
	for i := range n {
		ip, mark := fmt.Sprintf("10.1.200.%d", 1+i), fmt.Sprintf("%#x", 0x800000+i)
		ns.Run(b, "ip", "address", "add", ip+"/16", "dev", "eth0")
		ns.Run(b, "iptables", "-w", "-I", "OPENSHIFT-FIREWALL-ALLOW", "-d", ip, "-m", "conntrack", "--ctstate", "NEW", "-j", "REJECT")
		ns.Run(b, "iptables", "-w", "-t", "nat", "-I", "OPENSHIFT-MASQUERADE", "-s", "10.128.0.0/14", "-m", "mark", "--mark", mark, "-j", "SNAT", "--to-source", ip)
	}
	return time.Since(began)
}

package nodeagent

import (
	"context"
	"net/netip"
	"time"

	"github.com/hashicorp/go-hclog"

	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	"github.com/damask-sdn/damask/services/nodeagent/egressguard"
	"github.com/damask-sdn/damask/services/nodeagent/egressnode"
	"github.com/damask-sdn/damask/services/nodeagent/intent"
	"github.com/damask-sdn/damask/services/nodeagent/masquerade"
)

// changedWay is a namespace whose pods leave by addresses of this node now.
type changedWay struct {
	namespace string
	revision  uint64
	here      []netip.Addr // its egress IPs on this node
}

// heldHere answers those of a namespace's egress IPs that this node has.
func (e *egress) heldHere(all map[string]*egressv1.EgressAssignment) (here []netip.Addr) {
	for _, a := range all {
		for _, address := range a.GetAddresses() {
			if ip, err := netip.ParseAddr(address.GetIp()); err == nil && address.GetNode() == e.node {
				here = append(here, ip)
			}
		}
	}
	return here
}

// forgetOld has the node forget what it translated before to other addresses, once the
// pods of a namespace leave by egress IPs of this node: the guard lets nothing of that
// out any more, and a connection that is as new gets the right address. It runs until
// ctx ends.
func (e *egress) forgetOld(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case way := <-e.ways:
			if err := e.forgetTranslations(ctx, way); err != nil && ctx.Err() == nil {
				e.log.Warn("connections with an old address are not forgotten, and get no further", "namespace", way.namespace, "error", err)
			}
		}
	}
}

// switchTime is how long the switch may take until old connections are forgotten.
const switchTime = 30 * time.Second

func (e *egress) forgetTranslations(ctx context.Context, way changedWay) error {
	ctx, cancel := context.WithTimeout(ctx, switchTime)
	defer cancel()
	if _, _, err := e.wait(ctx, intent.Object{Kind: intent.KindEgress, Name: way.namespace}, way.revision); err != nil {
		return err
	}
	pods, right := map[netip.Addr]bool{}, map[netip.Addr]bool{}
	for _, pod := range e.state.Pods() {
		if pod.Namespace == way.namespace {
			pods[pod.IP] = true
		}
	}
	for _, ip := range way.here {
		right[ip] = true
	}
	network, _ := e.state.Network()
	inside := func(ip netip.Addr) bool {
		for _, n := range network.Node.ClusterNetworks {
			if n.Contains(ip) {
				return true
			}
		}
		return false
	}
	if len(pods) == 0 {
		return nil
	}
	_, err := e.guard.Forget(ctx, func(from, translated netip.Addr) bool { return pods[from] && !right[translated] && !inside(translated) })
	return err
}

// clearEgress takes away what an agent left that had egress servers in its configuration:
// addresses, rules and the guard. It is called when the switch has no flows any more
// that lead to them. On a node that never had any it changes nothing. An empty namespace
// is the one that the process runs in.
func clearEgress(ctx context.Context, namespace string, node netip.Addr, rules *masquerade.Rules, log hclog.Logger) ([]string, error) {
	guard, err := egressguard.Open(namespace)
	if err != nil {
		return nil, err
	}
	defer guard.Close()
	if there, err := guard.There(ctx); err != nil || !there {
		return nil, err // there were none
	}
	holder, err := egressnode.Open(egressnode.Config{Namespace: namespace, NodeIP: node}, log)
	if err != nil {
		return nil, err
	}
	defer holder.Close()
	repairs, err := holder.Hold(ctx, nil)
	if err != nil {
		return repairs, err
	}
	lines, err := rules.SetEgress(ctx, nil)
	if repairs = append(repairs, lines...); err != nil {
		return repairs, err
	}
	// Last: while it is there, what failed is tried again.
	if _, err = guard.Remove(ctx); err == nil {
		repairs = append(repairs, "nftables: the guard of egress IPs was left over")
	}
	return repairs, err
}

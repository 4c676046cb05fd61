package svcsync

import (
	"net/netip"
	"slices"

	"github.com/damask-sdn/damask/internal/serviceview"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// What a node itself sends to an outside address of a service with the policy Local may
// go to any backend, and to a pod of another node it goes through the tunnel. Only with
// tun0's address the answer would come back that way, so the pod would see that. By the
// other node's node port the pod sees the node, as it sees any client of that policy.

// hosts answers the address of another node. False: it is not known, or its node ports
// cannot be asked.
type hosts func(node string) (netip.Addr, bool)

// itself answers the backends of what the node itself sends; nil where they are those
// of everybody. A node is there once for each backend that is on it, which are those that
// it has at its node port itself: so each gets its share.
func (w *wish) itself(p serviceview.Port, of hosts) []proxy.Backend {
	if of == nil || p.NodePort == 0 {
		return nil
	}
	var all []serviceview.Backend
	differs := false
	for _, b := range p.Anywhere {
		if host, other := of(b.Node); other && !b.Local {
			b.Address, differs = netip.AddrPortFrom(host, p.NodePort), true
		}
		all = append(all, b)
	}
	if !differs {
		return nil
	}
	return w.backends(all)
}

// local are the services that itself may have another answer for when nodes change.
func (l *ledger) local() []serviceview.Name {
	var all []serviceview.Name
	for name, w := range l.wishes {
		if slices.ContainsFunc(w.entries, func(e proxy.Service) bool { return e.ExternalLocal && e.NodePort != 0 }) {
			all = append(all, name)
		}
	}
	return all
}

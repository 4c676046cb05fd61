package facts

import (
	"maps"
	"net/netip"
	"slices"

	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/egress/liveness"
)

// SetHostSubnet takes over a node's subnet, nil when it has none any more.
func (b *Book) SetHostSubnet(name string, h *ipamv1.HostSubnet) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if h != nil {
		delete(b.departed, name)
	} else if b.hostSubnets[name] != nil {
		b.departed[name] = true
	}
	put(b.hostSubnets, name, h)
	b.dirtyNodes[name] = true
	b.signal()
}

// SetClusterNetwork takes over the address plan. One that is gone stays in
// force.
func (b *Book) SetClusterNetwork(plan *ipamv1.ClusterNetwork) {
	var reserved []netip.Prefix
	for _, n := range plan.GetNetworks() {
		reserved = appendPrefix(reserved, n.GetCidr())
	}
	for _, n := range plan.GetServiceNetworks() {
		reserved = appendPrefix(reserved, n)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reserved, b.reservedChanged = reserved, true
	b.signal()
}

func appendPrefix(list []netip.Prefix, text string) []netip.Prefix {
	if p, err := netip.ParsePrefix(text); err == nil {
		list = append(list, p)
	}
	return list
}

// SetNetNamespace takes over a namespace's VNID, nil when it has none any more.
func (b *Book) SetNetNamespace(name string, n *tenancyv1.NetNamespace) {
	b.mu.Lock()
	defer b.mu.Unlock()
	old, known := b.netids[name]
	if n != nil && known && old == n.GetNetid() {
		return // labels, say
	}
	if known {
		delete(b.sharing[old], name)
		b.sharersDirty(old)
		if len(b.sharing[old]) == 0 {
			delete(b.sharing, old)
		}
		delete(b.netids, name)
	}
	if n != nil {
		b.netids[name] = n.GetNetid()
		if b.sharing[n.GetNetid()] == nil {
			b.sharing[n.GetNetid()] = map[string]bool{}
		}
		b.sharing[n.GetNetid()][name] = true
		b.sharersDirty(n.GetNetid())
	}
	b.nameDirty(name)
	b.signal()
}

// sharersDirty names the namespaces for which it matters whether they are alone
// with a VNID.
func (b *Book) sharersDirty(netid uint32) {
	for name := range b.sharing[netid] {
		b.nameDirty(name)
	}
}

// nameDirty names a namespace if it wants or has anything.
func (b *Book) nameDirty(name string) {
	if b.wishes[name] != nil || b.assignments[name] != nil {
		b.dirtyNamespaces[name] = true
	}
}

// SetPod takes over a pod, nil when it is gone.
func (b *Book) SetPod(namespace, name string, pod *tenancyv1.Pod) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if pod == nil {
		if delete(b.pods[namespace], name); len(b.pods[namespace]) == 0 {
			delete(b.pods, namespace)
		}
	} else {
		if b.pods[namespace] == nil {
			b.pods[namespace] = map[string]Pod{}
		}
		next := Pod{IPs: pod.GetIps(), Labels: pod.GetLabels()}
		if old, known := b.pods[namespace][name]; known && slices.Equal(old.IPs, next.IPs) && maps.Equal(old.Labels, next.Labels) {
			return
		}
		b.pods[namespace][name] = next
	}
	b.nameDirty(namespace)
	b.signal()
}

// SetHealth takes over what is decided about a node.
func (b *Book) SetHealth(v liveness.Verdict) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.health[v.Node] == v {
		return
	}
	b.health[v.Node] = v
	b.dirtyNodes[v.Node] = true
	b.signal()
}

// Confirm takes over which revision of its hosting a node has made true; 0: it
// does not know, or is not there to say.
func (b *Book) Confirm(node string, revision uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.confirmed[node] == revision {
		return
	}
	if b.confirmed[node] = revision; revision == 0 {
		delete(b.confirmed, node)
	}
	if awaited(b.hostings[node]) {
		b.dirtyNodes[node] = true
		b.signal()
	}
}

package nodeagent

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	"github.com/damask-sdn/damask/services/nodeagent/intent"
	"github.com/damask-sdn/damask/services/nodeagent/svcsync"
)

// sliceSource is the follower of EndpointSlices, whole.
type sliceSource interface {
	Get(name string) (*servicelbv1.EndpointSlice, bool)
	Snapshot() map[string]*servicelbv1.EndpointSlice
	Synced(ctx context.Context) error
	Cached() bool
}

// judgedSlices are the EndpointSlices as this node programs them: without the endpoints outside
// of the cluster that the firewall of the slice's own namespace denies, or while it is not
// known. Else a tenant could have a service of its own lead it past its firewall: at the
// node port of another node nobody knows any more which pod has asked. What a node has is no
// endpoint outside.
//
// The firewalls of the namespaces of such slices are followed on every node. A slice has the
// ports of all its endpoints, so an endpoint is in it with all of them, or with none.
type judgedSlices struct {
	sliceSource
	state  *intent.State
	hostIP netip.Addr
	// want follows exactly the firewalls of these namespaces, for services.
	want func(namespaces map[string]bool)
	// resolve waits until the firewalls of namespaces are known, or ctx ends.
	resolve func(ctx context.Context, namespaces []string)
	// changed says that a slice is to be programmed anew.
	changed func(name string, revision uint64)
	// wake says that settled may answer something else.
	wake func()

	ctx   context.Context //nolint:containedctx // of Run: waiting for what is not known ends with it
	begin sync.Once
	ready atomic.Bool

	order sync.Mutex // held while outside and what is followed become equal
	mu    sync.Mutex
	// outside are the slices with endpoints that no pod has, and whether a host outside has one.
	outside map[string]leading
}

// leading is the namespace of a slice, and whether it leads outside of the cluster.
type leading struct {
	namespace string
	leads     bool
}

// newJudgedSlices makes them, for a follower that is told later.
func newJudgedSlices(ctx context.Context, cfg Config, f *firewalls, to *svcsync.Syncer) *judgedSlices {
	return &judgedSlices{
		state: f.state, hostIP: cfg.HostIP, want: f.leadingWant, resolve: f.resolveAll, changed: to.SliceChanged, wake: to.Wake,
		ctx: ctx, outside: map[string]leading{},
	}
}

// settled says whether the firewalls of the slices that the agent begins with are known. Until
// then nothing is to be programmed: endpoints would go, and come again a moment later. It is
// asked when the network and the slices are known; who is asked first sees to it.
func (j *judgedSlices) settled() bool {
	j.begin.Do(func() {
		go func() {
			within, cancel := context.WithTimeout(j.ctx, resolving)
			defer cancel()
			j.look(j.sliceSource.Snapshot())
			j.resolve(within, slices.Collect(maps.Keys(j.namespaces())))
			j.ready.Store(true)
			j.again("")
			j.wake()
		}()
	})
	return j.ready.Load()
}

// Get answers a slice as it is to be programmed.
func (j *judgedSlices) Get(name string) (*servicelbv1.EndpointSlice, bool) {
	slice, exists := j.sliceSource.Get(name)
	if exists {
		slice = j.judge(slice)
	}
	return slice, exists
}

// Snapshot answers all slices as they are to be programmed.
func (j *judgedSlices) Snapshot() map[string]*servicelbv1.EndpointSlice {
	all := j.sliceSource.Snapshot()
	for name, slice := range all {
		all[name] = j.judge(slice)
	}
	return all
}

// judge answers a slice without the endpoints that its namespace may not reach.
func (j *judgedSlices) judge(slice *servicelbv1.EndpointSlice) *servicelbv1.EndpointSlice {
	outside, _ := j.leads(slice)
	denied := func(e *servicelbv1.Endpoint) bool {
		return len(e.GetAddresses()) > 0 && outside[e.GetAddresses()[0]] && !j.mayReach(slice, e)
	}
	if !slices.ContainsFunc(slice.GetEndpoints(), denied) {
		return slice
	}
	less := proto.CloneOf(slice) // the follower's own must not change
	less.Endpoints = slices.DeleteFunc(less.GetEndpoints(), denied)
	return less
}

func (j *judgedSlices) mayReach(slice *servicelbv1.EndpointSlice, e *servicelbv1.Endpoint) bool {
	addr := netip.MustParseAddr(e.GetAddresses()[0]) // leads has read it
	for _, p := range slice.GetPorts() {
		name, known := protocolNames[protocolNumbers[p.GetProtocol()]]
		if known && p.GetPort() <= 65535 && !j.state.MayLeave(slice.GetNamespace(), netip.AddrPortFrom(addr, uint16(p.GetPort())), name) {
			return false
		}
	}
	return true
}

// leads answers which addresses of a slice are neither pods' nor nodes', as they are spelled, and
// whether any is no pod's. Nothing is known while the network is not.
func (j *judgedSlices) leads(slice *servicelbv1.EndpointSlice) (outside map[string]bool, foreign bool) {
	network, known := j.state.Network()
	if !known {
		return nil, false
	}
	var nodes []netip.Addr
	for _, e := range slice.GetEndpoints() {
		if len(e.GetAddresses()) == 0 {
			continue
		}
		addr, err := netip.ParseAddr(e.GetAddresses()[0])
		if err != nil || !addr.Is4() || within(network.Node.ClusterNetworks, addr) {
			continue
		}
		if !foreign {
			outside, foreign, nodes = map[string]bool{}, true, append(j.state.Remotes(), j.hostIP)
		}
		if !slices.Contains(nodes, addr) {
			outside[addr.String()] = true
		}
	}
	return outside, foreign
}

// sliceChanged takes a slice, nil if it is gone, before it is programmed.
func (j *judgedSlices) sliceChanged(name string, slice *servicelbv1.EndpointSlice) {
	j.look(map[string]*servicelbv1.EndpointSlice{name: slice})
}

// nodesChanged says that an address may have become a node's or a pod's, or is that no more.
func (j *judgedSlices) nodesChanged() {
	j.mu.Lock()
	names := slices.Collect(maps.Keys(j.outside))
	j.mu.Unlock()
	some := map[string]*servicelbv1.EndpointSlice{}
	for _, name := range names {
		some[name], _ = j.sliceSource.Get(name)
	}
	j.look(some)
	for name, slice := range some {
		j.changed(name, slice.GetRevision())
	}
}

// look looks at where slices lead, and follows what follows from that.
func (j *judgedSlices) look(some map[string]*servicelbv1.EndpointSlice) {
	j.order.Lock()
	defer j.order.Unlock()
	found := map[string]leading{}
	for name, slice := range some {
		if outside, foreign := j.leads(slice); foreign {
			found[name] = leading{slice.GetNamespace(), len(outside) > 0}
		}
	}
	j.mu.Lock()
	changed := false
	for name := range some {
		was, had := j.outside[name]
		is, has := found[name]
		changed = changed || was != is || had != has
		if has {
			j.outside[name] = is
		} else {
			delete(j.outside, name)
		}
	}
	j.mu.Unlock()
	if changed {
		j.want(j.namespaces())
	}
}

// namespaces answers those whose firewalls matter.
func (j *judgedSlices) namespaces() map[string]bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	all := map[string]bool{}
	for _, l := range j.outside {
		if l.leads {
			all[l.namespace] = true
		}
	}
	return all
}

// again has the slices of a namespace programmed anew whose endpoints are not all pods'; all of
// them if the namespace is empty. It never blocks.
func (j *judgedSlices) again(namespace string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for name, l := range j.outside {
		if namespace != "" && l.namespace != namespace {
			continue
		}
		if slice, exists := j.sliceSource.Get(name); exists {
			j.changed(name, slice.GetRevision())
		}
	}
}

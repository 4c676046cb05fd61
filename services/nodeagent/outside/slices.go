package outside

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	"github.com/damask-sdn/damask/services/nodeagent/intent"
)

// Source is where slices come from, whole: the follower of EndpointSlices.
type Source interface {
	Get(name string) (*servicelbv1.EndpointSlice, bool)
	Snapshot() map[string]*servicelbv1.EndpointSlice
	Synced(ctx context.Context) error
	Cached() bool
}

// Config is what Slices work with. Every field is needed.
type Config struct {
	State  *intent.State
	HostIP netip.Addr // this node's
	// Want follows exactly the firewalls of these namespaces, for services.
	Want func(namespaces map[string]bool)
	// Resolve waits until the firewalls of namespaces are known, or ctx ends.
	Resolve func(ctx context.Context, namespaces []string)
	// Patience bounds how long Settled is put off because firewalls are not known.
	Patience time.Duration
	// Changed says that a slice is to be programmed anew. It must not block.
	Changed func(name string, revision uint64)
	// Wake says that Settled may answer something else.
	Wake func()
}

// Slices are the EndpointSlices as this node programs them: without the endpoints outside
// of the cluster that the firewall of the slice's own namespace denies, or while it is not
// known. Else a tenant could have a service of its own lead it past its firewall: at the
// node port of another node nobody knows any more which pod has asked. What a node has is no
// endpoint outside.
//
// The firewalls of the namespaces of such slices are followed on every node. A slice has the
// ports of all its endpoints, so an endpoint is in it with all of them, or with none.
type Slices struct {
	source Source
	cfg    Config

	ctx   context.Context //nolint:containedctx // of the agent: waiting for what is not known ends with it
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

// NewSlices makes them; Follow is called before anything else. What they wait for ends with ctx.
func NewSlices(ctx context.Context, cfg Config) *Slices {
	return &Slices{cfg: cfg, ctx: ctx, outside: map[string]leading{}}
}

// Follow says where slices come from.
func (j *Slices) Follow(from Source) { j.source = from }

// Settled says whether the firewalls of the slices that the agent begins with are known. Until
// then nothing is to be programmed: endpoints would go, and come again a moment later. It is
// asked when the network and the slices are known; who is asked first sees to it.
func (j *Slices) Settled() bool {
	j.begin.Do(func() {
		go func() {
			within, cancel := context.WithTimeout(j.ctx, j.cfg.Patience)
			defer cancel()
			j.look(j.source.Snapshot())
			j.cfg.Resolve(within, slices.Collect(maps.Keys(j.namespaces())))
			j.ready.Store(true)
			j.Again("")
			j.cfg.Wake()
		}()
	})
	return j.ready.Load()
}

// Synced waits until all slices are known.
func (j *Slices) Synced(ctx context.Context) error { return j.source.Synced(ctx) }

// Cached says whether slices are there from before this start.
func (j *Slices) Cached() bool { return j.source.Cached() }

// Get answers a slice as it is to be programmed.
func (j *Slices) Get(name string) (*servicelbv1.EndpointSlice, bool) {
	slice, exists := j.source.Get(name)
	if exists {
		slice = j.judge(slice)
	}
	return slice, exists
}

// Snapshot answers all slices as they are to be programmed.
func (j *Slices) Snapshot() map[string]*servicelbv1.EndpointSlice {
	all := j.source.Snapshot()
	for name, slice := range all {
		all[name] = j.judge(slice)
	}
	return all
}

// judge answers a slice without the endpoints that its namespace may not reach.
func (j *Slices) judge(slice *servicelbv1.EndpointSlice) *servicelbv1.EndpointSlice {
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

func (j *Slices) mayReach(slice *servicelbv1.EndpointSlice, e *servicelbv1.Endpoint) bool {
	addr := netip.MustParseAddr(e.GetAddresses()[0]) // leads has read it
	for _, p := range slice.GetPorts() {
		name, known := protocolNames[protocolNumbers[p.GetProtocol()]]
		if known && p.GetPort() <= 65535 && !j.cfg.State.MayLeave(slice.GetNamespace(), netip.AddrPortFrom(addr, uint16(p.GetPort())), name) {
			return false
		}
	}
	return true
}

// leads answers which addresses of a slice are neither pods' nor nodes', as they are spelled, and
// whether any is no pod's. Nothing is known while the network is not.
func (j *Slices) leads(slice *servicelbv1.EndpointSlice) (outside map[string]bool, foreign bool) {
	network, known := j.cfg.State.Network()
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
			outside, foreign, nodes = map[string]bool{}, true, append(j.cfg.State.Remotes(), j.cfg.HostIP)
		}
		if !slices.Contains(nodes, addr) {
			outside[addr.String()] = true
		}
	}
	return outside, foreign
}

// SliceChanged takes a slice, nil if it is gone, before it is programmed.
func (j *Slices) SliceChanged(name string, slice *servicelbv1.EndpointSlice) {
	j.look(map[string]*servicelbv1.EndpointSlice{name: slice})
}

// NodesChanged says that an address may have become a node's or a pod's, or is that no more.
func (j *Slices) NodesChanged() {
	j.mu.Lock()
	names := slices.Collect(maps.Keys(j.outside))
	j.mu.Unlock()
	some := map[string]*servicelbv1.EndpointSlice{}
	for _, name := range names {
		some[name], _ = j.source.Get(name)
	}
	j.look(some)
	for name, slice := range some {
		j.cfg.Changed(name, slice.GetRevision())
	}
}

// look looks at where slices lead, and follows what follows from that.
func (j *Slices) look(some map[string]*servicelbv1.EndpointSlice) {
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
		j.cfg.Want(j.namespaces())
	}
}

// namespaces answers those whose firewalls matter.
func (j *Slices) namespaces() map[string]bool {
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

// Again has the slices of a namespace programmed anew whose endpoints are not all pods'; all of
// them if the namespace is empty. It never blocks.
func (j *Slices) Again(namespace string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for name, l := range j.outside {
		if namespace != "" && l.namespace != namespace {
			continue
		}
		if slice, exists := j.source.Get(name); exists {
			j.cfg.Changed(name, slice.GetRevision())
		}
	}
}

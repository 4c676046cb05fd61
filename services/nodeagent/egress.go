package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/damask-sdn/damask/internal/egressmark"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	"github.com/damask-sdn/damask/services/nodeagent/egressguard"
	"github.com/damask-sdn/damask/services/nodeagent/egresshost"
	"github.com/damask-sdn/damask/services/nodeagent/egressnode"
	"github.com/damask-sdn/damask/services/nodeagent/egressreach"
	"github.com/damask-sdn/damask/services/nodeagent/intent"
)

// egress is the agent's part for egress IPs.
type egress struct {
	node      string
	state     *intent.State
	queue     func(intent.Change)
	refuse    func(intent.Object, error)
	forget    func(intent.Object)
	wait      func(context.Context, intent.Object, uint64) (bool, uint64, error)
	ways      chan changedWay
	host      *egresshost.Host
	guard     *egressguard.Guard
	guarded   chan struct{} // closed when the guard has been there once
	holder    *egressnode.Holder
	prober    *egressreach.Prober
	reporter  *egressreach.Reporter
	fence     *egressreach.Fence
	networks  *egressreach.Networks
	followed  *egressFollowed
	firewalls *firewalls // nil: nobody follows them
	log       hclog.Logger

	// mu is held while followers are looked at and the state is told, so that what was
	// seen later is told later.
	mu      sync.Mutex
	own     map[string]bool // namespaces of this node's pods
	hosting map[string]bool // namespaces whose pods must be told apart here
	ctx     context.Context //nolint:containedctx // of Run: waiting for what is not known ends with it
}

// manyWays is how many namespaces may wait for their old connections to be forgotten.
const manyWays = 1024

// egressServers are the connections to egress: one to whichever replica answers, and one
// to each.
type egressServers struct {
	any  *grpc.ClientConn
	each map[string]*grpc.ClientConn // by address
}

// newEgress makes the part for egress IPs; nil when the configuration names no server, and
// pods leave as their node does.
func (a *agent) newEgress(ctx context.Context, cfg Config, state *intent.State, c cluster, m machine) (*egress, error) {
	if len(cfg.Egress.Servers) == 0 {
		a.log.Info("pods leave the cluster as this node does: the configuration names no egress server")
		return nil, nil //nolint:nilnil // there is no such part
	}
	e := &egress{
		node: cfg.Node, state: state, queue: a.prog.Queue, refuse: a.prog.Refuse, forget: a.prog.Forget, wait: a.prog.WaitProgrammed,
		ways: make(chan changedWay, manyWays), guarded: make(chan struct{}), log: a.log.Named("egress"),
		own: map[string]bool{}, hosting: map[string]bool{}, ctx: ctx,
	}
	var err error
	if e.holder, err = egressnode.Open(egressnode.Config{NodeIP: cfg.HostIP}, e.log); err != nil {
		return nil, err
	}
	a.onClose(func() { _ = e.holder.Close() })
	if e.guard, err = egressguard.Open(""); err != nil {
		return nil, err
	}
	a.onClose(func() { _ = e.guard.Close() })
	if e.prober, err = egressreach.OpenProber(); err != nil {
		return nil, err
	}
	a.onClose(func() { _ = e.prober.Close() })
	reserved := egressmark.Reserved{Masquerade: uint8(cfg.MasqueradeBit)}
	state.FollowEgress(reserved)
	replicas := map[string]egressv1.EgressNodeServiceClient{}
	for address, conn := range c.egress.each {
		replicas[address] = egressv1.NewEgressNodeServiceClient(conn)
	}
	e.networks = egressreach.NewNetworks(cfg.Node, c.egress.any, e.holder.Networks, e.holder.Changed(), e.log)
	e.host = egresshost.New(egresshost.Config{
		Rules: m.rules, Addresses: e.holder, Guard: e.guard,
		Flows:   &egressFlows{node: cfg.Node, state: state, program: a.prog.Program, refuse: a.prog.Refuse},
		Guarded: e.guarded,
		Confirm: func(revision uint64) { e.reporter.Confirm(revision) }, Reserved: reserved, Log: e.log,
	})
	e.host.Distrust()
	e.fence = egressreach.NewFence(e.prober, e.host, e.log)
	e.reporter = egressreach.New(replicas, e.prober, e.fence, e.log)
	return e, nil
}

// run runs the part until ctx ends.
func (e *egress) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, part := range []func(context.Context) error{
		e.followed.assignments.Run, e.followed.pods.Run, e.followed.hosting.Run,
		e.host.Run, e.forgetOld, e.holder.Run, e.prober.Run, e.reporter.Run, e.fence.Run, e.networks.Run,
	} {
		group.Go(func() error { return part(ctx) })
	}
	return group.Wait()
}

// begin follows what this node hosts. It is called when the followers are there.
func (e *egress) begin() {
	e.followed.hosting.Want(e.node)
	go e.when(e.followed.hosting.Known, e.node, e.hostingChanged)
}

// when calls do as soon as all of a name is known, unless nobody follows it any more.
func (e *egress) when(known func(context.Context, string) error, name string, do func()) {
	if known(e.ctx, name) == nil {
		do()
	}
}

// podsWant follows a namespace for pods of this node.
func (e *egress) podsWant(namespace string) {
	e.mu.Lock()
	had := e.own[namespace]
	e.own[namespace] = true
	e.mu.Unlock()
	if had {
		return
	}
	e.followed.assignments.Want(namespace)
	e.followed.pods.Want(namespace)
	go e.when(e.followed.assignments.Known, namespace, func() { e.assignmentChanged(namespace + "/") })
}

// tell hands a change over: first to what judges services with endpoints outside, which a pod
// with egress IPs must not reach by its node's address.
func (e *egress) tell(change intent.Change) {
	if e.firewalls != nil {
		e.firewalls.tell(change)
		return
	}
	e.queue(change)
}

// podsDrop ends that.
func (e *egress) podsDrop(namespace string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.own, namespace)
	e.followed.assignments.Drop(namespace)
	e.tell(e.state.ForgetEgress(namespace))
	e.forget(intent.Object{Kind: intent.KindEgress, Name: namespace})
	e.dropPods(namespace)
}

// dropPods stops following the pods of a namespace that nobody wants. The caller holds
// the lock.
func (e *egress) dropPods(namespace string) {
	if e.own[namespace] || e.hosting[namespace] {
		return
	}
	lists, _, _ := e.followed.pods.Of(namespace)
	e.followed.pods.Drop(namespace)
	for name := range lists {
		_, selection, _ := strings.Cut(name, "/")
		e.tell(e.state.ForgetEgressPods(namespace, selection))
		e.forget(intent.Object{Kind: intent.KindEgressPods, Name: name})
	}
}

// assignmentChanged takes how a namespace leaves, all of it, since one selection says
// nothing without the others.
func (e *egress) assignmentChanged(name string) {
	namespace, _, _ := strings.Cut(name, "/")
	e.mu.Lock()
	defer e.mu.Unlock()
	all, revision, known := e.followed.assignments.Of(namespace)
	if !known {
		return // It stays closed, or is not followed any more.
	}
	object := intent.Object{Kind: intent.KindEgress, Name: namespace}
	change, err := e.state.SetEgress(namespace, revision, slices.Collect(maps.Values(all)))
	if err != nil {
		e.log.Error("object refused, the last good one stays in force", "kind", object.Kind, "name", object.Name, "error", err)
		e.refuse(object, err)
		return
	}
	e.tell(change)
	if here := e.heldHere(all); len(here) > 0 {
		select {
		case e.ways <- changedWay{namespace, revision, here}:
		default: // so many that connections are forgotten at the next change
		}
	}
}

// podsChanged takes the pods of a selection.
func (e *egress) podsChanged(name string) {
	namespace, selection, _ := strings.Cut(name, "/")
	e.mu.Lock()
	defer e.mu.Unlock()
	object := intent.Object{Kind: intent.KindEgressPods, Name: name}
	list, exists := e.followed.pods.Get(name)
	if !exists {
		e.tell(e.state.ForgetEgressPods(namespace, selection))
		e.forget(object)
		return
	}
	change, err := e.state.SetEgressPods(list)
	if err != nil {
		e.log.Error("object refused, the last good one stays in force", "kind", object.Kind, "name", object.Name, "error", err)
		e.refuse(object, err)
		return
	}
	e.tell(change)
}

// hostingChanged takes what this node hosts.
func (e *egress) hostingChanged() {
	e.mu.Lock()
	defer e.mu.Unlock()
	all, revision, known := e.followed.hosting.Of(e.node)
	if !known {
		return
	}
	hosting := all[e.node]
	if hosting == nil {
		hosting = &egressv1.EgressHosting{Node: e.node, Revision: revision}
	}
	wanted, judged := map[string]bool{}, map[string]bool{}
	for _, a := range hosting.GetAddresses() {
		judged[a.GetNamespace()] = true
		if a.GetMatchPods() {
			wanted[a.GetNamespace()] = true
			e.followed.pods.WantSince(a.GetNamespace(), e.followed.hosting.Newest()) // by what names it
		}
	}
	before := e.hosting
	e.hosting = wanted
	if e.firewalls != nil {
		e.firewalls.hostingWant(judged)
	}
	e.host.Want(hosting)
	for namespace := range before {
		if !wanted[namespace] {
			e.dropPods(namespace)
		}
	}
}

// resolve waits until the state knows how the pods leave that the node began with, and what
// it hosts. Compared before, the switch would lose these flows, and get them back a
// moment later.
func (e *egress) resolve(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, resolving)
	defer cancel()
	select {
	case <-e.host.Begun():
	case <-ctx.Done():
		e.log.Warn("it is not known which egress IPs this node has, nothing leaves by them yet")
	}
	e.mu.Lock()
	own, hosting := slices.Sorted(maps.Keys(e.own)), slices.Sorted(maps.Keys(e.hosting))
	e.mu.Unlock()
	for _, namespace := range own {
		if e.followed.assignments.Known(ctx, namespace) != nil {
			e.log.Warn("it is not known how pods leave the cluster, they stay inside", "namespace", namespace)
			continue
		}
		e.assignmentChanged(namespace + "/")
	}
	for _, namespace := range append(own, hosting...) {
		if e.followed.pods.Known(ctx, namespace) != nil {
			continue // They are closed where it matters.
		}
		lists, _, _ := e.followed.pods.Of(namespace)
		for name := range lists {
			e.podsChanged(name)
		}
	}
}

// known waits until it is known how a namespace leaves: then its first pod here begins
// open. If that is not known when ctx ends, the pod begins closed.
func (e *egress) known(ctx context.Context, namespace string) {
	if e.followed.assignments.Known(ctx, namespace) == nil {
		e.assignmentChanged(namespace + "/")
	}
}

// ensure makes the guard right, before anything may lead packets past it. One pass at a
// time calls it.
func (e *egress) ensure(ctx context.Context, network intent.Network, maskBit uint8, userspace bool) ([]string, error) {
	repairs, err := e.guard.Ensure(ctx, egressguard.Config{
		ClusterNetworks: network.Node.ClusterNetworks, MasqueradeBit: maskBit, Userspace: userspace,
	})
	if err != nil {
		return repairs, err
	}
	select {
	case <-e.guarded:
	default:
		close(e.guarded)
		e.host.Wake()
	}
	return repairs, nil
}

// egressFlows puts this node's egress IPs into the state, and their flows into the switch.
// The loop of egresshost alone calls it.
type egressFlows struct {
	node    string
	state   *intent.State
	program func(context.Context, intent.Change) error
	refuse  func(intent.Object, error)
	unsent  []string // owners of flows that the switch did not take
}

// Lead is egresshost's call.
func (f *egressFlows) Lead(ctx context.Context, revision uint64, ready []*egressv1.HostedAddress) error {
	change, err := f.state.SetEgressHosting(revision, ready)
	if err != nil {
		return err
	}
	f.unsent = append(f.unsent, change.Owners...)
	if len(f.state.Missing()) > 0 {
		return egresshost.ErrSwitchAway
	}
	change.Owners = f.unsent
	switch err := f.program(ctx, change); {
	case errors.Is(err, intent.ErrNotStarted):
		return egresshost.ErrSwitchAway
	case err != nil:
		return fmt.Errorf("lead packets to egress IPs: %w", err)
	}
	f.unsent = nil
	return nil
}

// Failed is egresshost's call.
func (f *egressFlows) Failed(_ uint64, err error) {
	f.refuse(intent.Object{Kind: intent.KindEgressHosting, Name: f.node}, err)
}

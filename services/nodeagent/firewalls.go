package nodeagent

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	"github.com/damask-sdn/damask/services/nodeagent/firewallguard"
	"github.com/damask-sdn/damask/services/nodeagent/intent"
	"github.com/damask-sdn/damask/services/nodeagent/lookups"
	"github.com/damask-sdn/damask/services/nodeagent/outside"
)

// firewalls is the agent's part for egress firewalls: those of the namespaces of its pods,
// of those for which this node holds egress IPs, and of those whose services lead outside.
type firewalls struct {
	state    *intent.State
	queue    func(intent.Change)
	refuse   func(intent.Object, error)
	forget   func(intent.Object)
	followed *firewallsFollowed
	guard    *outside.Guard
	client   egressv1.EgressNetworkPolicyServiceClient
	services *services       // nil: somebody else's
	slices   *outside.Slices // the same
	lookups  *lookups.Reporter
	log      hclog.Logger

	// mu is held while followers are looked at and the state is told, so that what was
	// seen later is told later.
	mu      sync.Mutex
	own     map[string]bool  // namespaces of this node's pods
	hosting map[string]bool  // namespaces for whose pods this node has egress IPs
	leading map[string]bool  // namespaces whose services have endpoints outside
	names   map[string]bool  // names that are followed
	servers []netip.AddrPort // whom pods ask for names
	listens bool             // the state was told of them: the switch can make copies
	ctx     context.Context  //nolint:containedctx // of Run: waiting for what is not known ends with it
}

// newFirewalls makes the part; the configuration names egress servers.
func (a *agent) newFirewalls(ctx context.Context, cfg Config, state *intent.State, c cluster) (*firewalls, error) {
	servers, err := dnsServers(cfg.DNS.Servers, resolvConf)
	if err != nil {
		return nil, err
	}
	guard, err := firewallguard.Open("")
	if err != nil {
		return nil, err
	}
	a.onClose(func() { _ = guard.Close() })
	state.FollowFirewalls()
	return &firewalls{
		client: egressv1.NewEgressNetworkPolicyServiceClient(c.egress.any), guard: outside.NewGuard(state, guard), services: a.services,
		lookups: lookups.New(c.egress.any, cfg.Node, a.log), servers: servers,
		state: state, queue: a.prog.Queue, refuse: a.prog.Refuse, forget: a.prog.Forget, log: a.log.Named("firewall"),
		own: map[string]bool{}, hosting: map[string]bool{}, leading: map[string]bool{}, names: map[string]bool{}, ctx: ctx,
	}, nil
}

// run runs the part until ctx ends.
func (f *firewalls) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, part := range []func(context.Context) error{f.followed.policies.Run, f.followed.names.Run, f.followNames, f.runGuard} {
		group.Go(func() error { return part(ctx) })
	}
	return group.Wait()
}

// podsWant follows the firewall of a namespace for pods of this node.
func (f *firewalls) podsWant(namespace string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.want(f.own, namespace)
}

// podsDrop ends that.
func (f *firewalls) podsDrop(namespace string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.own, namespace)
	f.dropUnwanted(namespace)
}

// known waits until the firewall of a namespace is known: then its first pod here begins
// open. If it is not when ctx ends, the pod begins closed.
func (f *firewalls) known(ctx context.Context, namespace string) {
	if f.followed.policies.Known(ctx, namespace) == nil {
		f.policyChanged(namespace + "/")
	}
}

// hostingWant follows exactly the firewalls of these namespaces for egress IPs of this node.
func (f *firewalls) hostingWant(namespaces map[string]bool) { f.wantExactly(f.hosting, namespaces) }

// leadingWant follows exactly the firewalls of these namespaces for services.
func (f *firewalls) leadingWant(namespaces map[string]bool) { f.wantExactly(f.leading, namespaces) }

func (f *firewalls) wantExactly(by, namespaces map[string]bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for namespace := range namespaces {
		f.want(by, namespace)
	}
	for namespace := range by {
		if !namespaces[namespace] {
			delete(by, namespace)
			f.dropUnwanted(namespace)
		}
	}
}

// judges says whether packets of a namespace's pods leave by this node. The caller holds the lock.
func (f *firewalls) judges(namespace string) bool { return f.own[namespace] || f.hosting[namespace] }

// wanted says whether anybody wants a namespace. The caller holds the lock.
func (f *firewalls) wanted(namespace string) bool { return f.judges(namespace) || f.leading[namespace] }

// want follows a namespace. The caller holds the lock.
func (f *firewalls) want(by map[string]bool, namespace string) {
	had := f.wanted(namespace)
	by[namespace] = true
	f.tell(f.state.SetFirewallIdle(namespace, !f.judges(namespace)))
	if had {
		return
	}
	f.followed.policies.Want(namespace)
	go func() {
		if f.followed.policies.Known(f.ctx, namespace) == nil {
			f.policyChanged(namespace + "/")
		}
	}()
}

// dropUnwanted stops following what nobody wants, and takes out of the switch what only
// services want. The caller holds the lock.
func (f *firewalls) dropUnwanted(namespace string) {
	if f.wanted(namespace) {
		f.tell(f.state.SetFirewallIdle(namespace, !f.judges(namespace)))
		return
	}
	f.followed.policies.Drop(namespace)
	change := f.state.ForgetFirewall(namespace)
	f.state.SetFirewallIdle(namespace, false) // it has no flows any more
	f.tell(change)
	f.forget(intent.Object{Kind: intent.KindFirewall, Name: namespace})
}

// policyChanged takes all policies of a namespace, since one says nothing without the others.
func (f *firewalls) policyChanged(name string) {
	namespace, _, _ := strings.Cut(name, "/")
	f.mu.Lock()
	defer f.mu.Unlock()
	all, revision, known := f.followed.policies.Of(namespace)
	if !known {
		return // It stays closed, or is not followed any more.
	}
	object := intent.Object{Kind: intent.KindFirewall, Name: namespace}
	change, err := f.state.SetFirewall(namespace, revision, slices.Collect(maps.Values(all)))
	if err != nil {
		f.refused(object, err)
		return
	}
	f.tell(change)
}

// nameChanged takes the addresses of a name.
func (f *firewalls) nameChanged(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	object := intent.Object{Kind: intent.KindDNSName, Name: name}
	told, exists := f.followed.names.Get(name)
	if !exists {
		f.state.ForgetDNSName(name)
		f.forget(object)
		return
	}
	change, err := f.state.SetDNSName(told)
	if err != nil {
		f.refused(object, err)
		return
	}
	f.tell(change)
}

// tell hands a change over: first to the guard, so that services lead nowhere any more
// when the change is said to be in force.
func (f *firewalls) tell(change intent.Change) {
	if len(change.Owners)+len(change.Objects) == 0 {
		return
	}
	if len(change.Owners) > 0 {
		if err := f.guard.Sync(f.ctx); err != nil && f.ctx.Err() == nil {
			f.guardFailed(err)
		}
		for _, owner := range change.Owners {
			if namespace, is := intent.FirewallOf(owner); is && f.slices != nil {
				f.slices.Again(namespace)
			}
		}
	}
	f.queue(change)
}

// ensure compares the guard with what it should be. The first time it waits for the
// endpoints that the agent begins with: told before, the guard would close ways that it had open.
func (f *firewalls) ensure(ctx context.Context) ([]string, error) {
	if f.services != nil {
		begun, cancel := context.WithTimeout(ctx, resolving)
		defer cancel()
		select {
		case <-f.services.Begun():
		case <-begun.Done():
		}
	}
	if err := f.guard.Sync(ctx); err != nil {
		return nil, err
	}
	network, known := f.state.Network()
	if !known {
		return nil, nil
	}
	return f.guard.Ensure(ctx, network.Node)
}

// runGuard keeps the guard at what services say.
func (f *firewalls) runGuard(ctx context.Context) error { return f.guard.Run(ctx, f.guardFailed) }

func (f *firewalls) guardFailed(err error) {
	f.log.Warn("endpoints outside of the cluster are not judged anew, the next comparison repeats it", "error", err)
}

func (f *firewalls) refused(object intent.Object, err error) {
	f.log.Error("object refused, the last good one stays in force", "kind", object.Kind, "name", object.Name, "error", err)
	f.refuse(object, err)
}

// followNames follows the names that rules have, until ctx ends.
func (f *firewalls) followNames(ctx context.Context) error {
	for {
		f.wantNames()
		select {
		case <-ctx.Done():
			return nil
		case <-f.state.FirewallNamesChanged():
		}
	}
}

func (f *firewalls) wantNames() {
	f.mu.Lock()
	defer f.mu.Unlock()
	wanted := f.state.FirewallNames()
	f.lookups.Follow(f.state.Wildcards())
	for _, name := range wanted {
		if !f.names[name] {
			f.names[name] = true
			f.followed.names.WantSince(name, f.followed.policies.Newest()) // by what names it
		}
	}
	for name := range f.names {
		if _, still := slices.BinarySearch(wanted, name); !still {
			delete(f.names, name)
			f.followed.names.Drop(name)
			f.state.ForgetDNSName(name)
			f.forget(intent.Object{Kind: intent.KindDNSName, Name: name})
		}
	}
}

// resolve waits until the state knows the firewalls of the pods that the node began with,
// and of what it hosts. Compared before, the switch would lose these flows, and get them
// back a moment later.
func (f *firewalls) resolve(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, resolving)
	defer cancel()
	f.mu.Lock()
	namespaces := slices.Collect(maps.Keys(f.own))
	for namespace := range f.hosting {
		namespaces = append(namespaces, namespace)
	}
	f.mu.Unlock()
	f.resolveAll(ctx, namespaces)
	for _, namespace := range namespaces {
		if !f.state.FirewallKnown(namespace) {
			f.log.Warn("it is not known where pods may go outside of the cluster, they stay inside", "namespace", namespace)
		}
	}
}

// resolveAll waits until the state knows the firewalls of namespaces, or ctx ends.
func (f *firewalls) resolveAll(ctx context.Context, namespaces []string) {
	for _, namespace := range namespaces {
		if f.followed.policies.Known(ctx, namespace) == nil {
			f.policyChanged(namespace + "/")
		}
	}
	f.wantNames()
	for _, name := range f.state.FirewallNames() {
		if f.followed.names.Known(ctx, name) == nil {
			f.nameChanged(name)
		}
	}
}

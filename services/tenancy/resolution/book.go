package resolution

import (
	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/internal/policy/policywire"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/group"
	"github.com/damask-sdn/damask/services/tenancy/policystore"
	"github.com/damask-sdn/damask/services/tenancy/resolve"
)

// place is what of a pod no selector sees.
type place struct{ node, sandbox string }

// book is what was resolved, and how it is stored.
type book struct {
	resolver *resolve.Resolver
	places   map[group.PodKey]place
	nodes    map[group.PodKey]string // Under which node a pod's policies are stored.
	moved    map[group.PodKey]struct{}
	groups   map[policy.GroupID]*divided
	kept     kept
	log      hclog.Logger
}

// stage is told of a key that is to be written, or to go (nil).
type stage func(key string, object proto.Message)

// newBook resolves what a snapshot has.
func newBook(s bucket.Snapshot, log hclog.Logger) *book {
	b := &book{
		resolver: resolve.New(), places: map[group.PodKey]place{}, nodes: map[group.PodKey]string{},
		moved: map[group.PodKey]struct{}{}, groups: map[policy.GroupID]*divided{}, kept: newKept(), log: log,
	}
	for _, kind := range sources {
		for e := range s.Scan(kind+".", "") {
			b.look(s, e.Key)
		}
	}
	return b
}

// look takes over what a source key holds now.
func (b *book) look(s bucket.Snapshot, key string) {
	e, there := s.Get(key)
	switch kind, names := namesOf(key); {
	case kind == "netnamespace" && len(names) == 1:
		b.lookAtNamespace(e, there, names[0])
	case kind == "pod" && len(names) == 2:
		b.lookAtPod(e, there, group.PodKey{Namespace: names[0], Name: names[1]})
	case kind == policystore.Kind && len(names) == 2:
		b.lookAtPolicy(e, there, policy.Key{Kind: names[0], Name: names[1]})
	case kind == policystore.Kind && len(names) == 3:
		b.lookAtPolicy(e, there, policy.Key{Kind: names[0], Namespace: names[1], Name: names[2]})
	}
}

func (b *book) lookAtNamespace(e bucket.Entry, there bool, name string) {
	if !there {
		b.resolver.DeleteNamespace(name)
		return
	}
	ns := &tenancyv1.NetNamespace{}
	if err := decode(e, ns); err != nil {
		b.log.Error("a namespace cannot be read, its last labels stay", "namespace", name, "error", err)
		return
	}
	b.resolver.SetNamespace(name, ns.GetLabels())
}

func (b *book) lookAtPod(e bucket.Entry, there bool, key group.PodKey) {
	b.moved[key] = struct{}{}
	if there {
		pod, at, lives, err := readPod(e)
		if err != nil {
			b.log.Error("a pod cannot be read, it stays as it was", "namespace", key.Namespace, "pod", key.Name, "error", err)
			return
		}
		if lives {
			b.resolver.SetPod(pod)
			b.places[key] = at
			return
		}
	}
	b.resolver.DeletePod(key.Namespace, key.Name)
	delete(b.places, key)
}

func (b *book) lookAtPolicy(e bucket.Entry, there bool, key policy.Key) {
	if !there {
		b.kept.release(key)
		b.resolver.DeletePolicy(key)
		return
	}
	written := &tenancyv1.NetworkPolicy{}
	if err := decode(e, written); err != nil {
		b.keep(key, err)
		return
	}
	p, violations := ReadWritten(written)
	if violations != nil {
		b.keep(key, &policystore.InvalidError{Violations: violations})
		return
	}
	b.kept.release(key)
	b.resolver.SetPolicy(p)
}

func (b *book) keep(key policy.Key, why error) {
	b.kept.policies[key] = struct{}{}
	b.log.Error("a policy cannot be read, what was resolved of it before stays in force", "policy", key.String(), "error", why)
}

// drain stages what has changed since the last time, in the order in which it
// is to be stored.
func (b *book) drain(to stage) {
	c := b.resolver.Drain()
	for _, g := range c.Groups {
		if !g.Gone {
			b.stageGroup(g, to)
		}
	}
	for i := range c.Policies {
		to(policyKey(c.Policies[i].Key), policywire.Policy(&c.Policies[i]))
	}
	for _, p := range c.Pods {
		b.moved[group.PodKey{Namespace: p.Namespace, Name: p.Name}] = struct{}{}
	}
	for _, key := range c.GonePods {
		b.moved[key] = struct{}{}
	}
	for key := range b.moved {
		b.stagePod(key, to)
	}
	clear(b.moved)
	for _, key := range c.GonePolicies {
		to(policyKey(key), nil)
	}
	for _, g := range c.Groups {
		if g.Gone {
			b.stageGone(g.ID, to)
		}
	}
}

// stageGroup stages the shards that a change concerns.
func (b *book) stageGroup(c group.Change, to stage) {
	d := b.groups[c.ID]
	if d == nil {
		d = newDivided(0)
		b.groups[c.ID] = d
	}
	write, drop := d.change(c)
	for _, i := range write {
		to(shardKey(c.ID, i), d.message(c.ID, i))
	}
	for i := range drop {
		to(shardKey(c.ID, len(d.shards)+i), nil)
	}
}

func (b *book) stageGone(id policy.GroupID, to stage) {
	if d := b.groups[id]; d != nil {
		for i := range d.shards {
			to(shardKey(id, i), nil)
		}
		delete(b.groups, id)
	}
}

// stagePod stages a pod's policies, where it is now, and not where it was.
func (b *book) stagePod(key group.PodKey, to stage) {
	at, lives := b.places[key]
	// Of a pod without a sandbox no agent asks: who has attached it, enforces its policies.
	lives = lives && at.sandbox != ""
	if was, stored := b.nodes[key]; stored && (!lives || was != at.node) {
		to(podKey(was, key.Namespace, key.Name), nil)
		delete(b.nodes, key)
	}
	pod, known := b.resolver.Pod(key)
	if !lives || !known {
		return
	}
	b.nodes[key] = at.node
	pod.Policies = b.kept.with(key, at.sandbox, pod.Policies)
	to(podKey(at.node, key.Namespace, key.Name), policywire.PodPolicies(&policywire.Placed{Node: at.node, Sandbox: at.sandbox, Pod: pod}))
}

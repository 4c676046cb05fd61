package kube

import (
	"context"

	"github.com/hashicorp/go-hclog"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/internal/kube/networkv1"
	"github.com/damask-sdn/damask/services/egress/store"
)

const (
	// owner is the field manager of what this service writes.
	owner = "damask-egress"
	// workers is how many objects of a kind are reconciled at once: commits that come at
	// the same time share a batch.
	workers = 4
)

// Kinds of keys of the store that matter to one kind of objects.
var (
	ofHostSubnet   = []string{store.KindHostSubnet, store.KindHosting, store.KindNode}
	ofNetNamespace = []string{store.KindNetNamespace, store.KindAssignment}
	ofPolicy       = []string{store.KindPolicy}
)

// Adapter is a replica's part in bringing objects and store together.
type Adapter struct {
	api    *kube.Adapter
	bucket *bucket.Bucket
	store  *store.Store
	log    hclog.Logger

	hostSubnets, netNamespaces, policies *kube.Feed
	waiting                              mentions // NetNamespaces, for addresses that others have
	names                                mentions // EgressNetworkPolicies, of names
	hosts                                hosts
}

// New returns a replica's part.
func New(api *kube.Adapter, log hclog.Logger) *Adapter {
	a := &Adapter{api: api, log: log.Named("kube")}
	a.hostSubnets, a.netNamespaces, a.policies = a.feed(ofHostSubnet), a.feed(ofNetNamespace), a.feed(ofPolicy)
	return a
}

// feed tells of the objects that keys of some kinds belong to.
func (a *Adapter) feed(kinds []string) *kube.Feed {
	return kube.NewFeed(func() (names []types.NamespacedName) {
		for _, kind := range kinds {
			for entry := range a.bucket.Scan(kind+".", "") {
				if name, ok := nameOf(entry.Key, kinds); ok {
					names = append(names, name)
				}
			}
		}
		return names
	})
}

// nameOf answers whose a key is, if it is of one of those kinds.
func nameOf(key string, kinds []string) (types.NamespacedName, bool) {
	for _, kind := range kinds {
		switch names, ok := store.NamesOf(key, kind); {
		case !ok || len(names) == 0:
		case kind != store.KindPolicy:
			return types.NamespacedName{Name: names[0]}, true
		case len(names) == 2:
			return types.NamespacedName{Namespace: names[0], Name: names[1]}, true
		}
	}
	return types.NamespacedName{}, false
}

// Observe learns from changes of the bucket which objects may be different.
func (a *Adapter) Observe(changes []bucket.Change, reset bool) {
	a.api.Observe(changes, reset)
	for _, c := range changes {
		if name, ok := nameOf(c.Key, ofHostSubnet); ok {
			a.hostSubnets.Changed(name)
		} else if name, ok := nameOf(c.Key, ofNetNamespace); ok {
			a.netNamespaces.Changed(name)
		} else if name, ok := nameOf(c.Key, ofPolicy); ok {
			a.policies.Changed(name)
		} else if names, ok := store.NamesOf(c.Key, store.KindDNSName); ok && len(names) == 1 {
			a.policies.Changed(a.names.of(names[0])...)
		} else if ip, ok := store.AddressOf(c.Key); ok && c.Deleted {
			a.netNamespaces.Changed(a.waiting.of(ip)...)
		}
	}
}

// Run brings objects and the store of the observed bucket together until ctx ends.
func (a *Adapter) Run(ctx context.Context, b *bucket.Bucket, s *store.Store) error {
	a.bucket, a.store = b, s
	a.api.Use(b)
	return a.api.Run(ctx, kube.Work{Begin: a.hosts.forget, Adopt: a.adopt, Controllers: []kube.Controller{
		{Name: "hostsubnet", Kinds: []client.Object{&networkv1.HostSubnet{}}, Stored: a.hostSubnets, Reconcile: a.hostSubnet, Workers: workers},
		{Name: "netnamespace", Kinds: []client.Object{&networkv1.NetNamespace{}}, Stored: a.netNamespaces, Reconcile: a.netNamespace, Workers: workers},
		{Name: "egressnetworkpolicy", Kinds: []client.Object{&networkv1.EgressNetworkPolicy{}}, Stored: a.policies, Reconcile: a.policy, Workers: workers},
	}})
}

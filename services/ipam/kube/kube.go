// Package kube brings Kubernetes' objects and the service's store together: Nodes and
// HostSubnets, and the ClusterNetwork.
//
// It owns, of a HostSubnet, its existence, host, hostIP and subnet, and the condition
// Accepted; of the ClusterNetwork that condition, and the object where there is none. It
// promises that a node that Kubernetes has is expected by the store, and gets what an
// object says that it has; that the HostSubnet of a node that goes is released, also when
// another Node has its name meanwhile; that
// lost objects come back from the store, and a lost store gets every subnet back from the
// objects before any other node gets one; and that what the store refuses changes nothing and
// is said on the object. A HostSubnet that a person made, without the annotation
// pod.network.openshift.io/node-uid, is kept without a Node.
//
// It must not touch egressIPs and egressCIDRs, which are damask-egress's, nor decide
// anything that package allocation decides.
package kube

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/hashicorp/go-hclog"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/internal/kube/networkv1"
	"github.com/damask-sdn/damask/internal/token"
	"github.com/damask-sdn/damask/services/ipam/allocation"
	"github.com/damask-sdn/damask/services/ipam/plan"
)

// owner is who has written a field, as the API server remembers it.
const owner = "damask-ipam"

// workers is how many HostSubnets are reconciled at once: most of the time of one is the
// API server's.
const workers = 4

// Kinds of keys of the store.
const (
	kindHostSubnet     = "hostsubnet"
	kindClusterNetwork = "clusternetwork"
)

// Adapter is a replica's part in bringing objects and store together.
type Adapter struct {
	api     *kube.Adapter
	store   *allocation.Store
	bucket  *bucket.Bucket
	log     hclog.Logger
	nodes   *kube.Feed   // by name, of HostSubnets in the store
	network *kube.Feed   // of the plan
	initial *plan.Plan   // of a cluster that has none; nil: somebody will apply one
	waiting kube.Waiting // nodes that were refused a subnet
}

// New returns a replica's part. The initial plan is that of a cluster that has none; nil:
// somebody will apply one.
func New(api *kube.Adapter, initial *plan.Plan, log hclog.Logger) *Adapter {
	a := &Adapter{api: api, initial: initial, log: log.Named("kube")}
	a.nodes = kube.NewFeed(a.storedNodes)
	a.network = kube.NewFeed(func() []types.NamespacedName { return []types.NamespacedName{{Name: plan.Name}} })
	return a
}

// Observe learns from changes of the bucket which objects may be different.
func (a *Adapter) Observe(changes []bucket.Change, reset bool) {
	a.api.Observe(changes, reset)
	for _, c := range changes {
		kind, _, _ := strings.Cut(c.Key, ".")
		switch kind {
		case kindHostSubnet:
			if name, ok := nodeOf(c.Key); ok {
				a.nodes.Changed(name)
			}
		case kindClusterNetwork:
			a.network.Changed(types.NamespacedName{Name: plan.Name})
		default:
			continue
		}
		a.nodes.Changed(a.waiting.All()...)
	}
}

// nodeOf answers whose HostSubnet a key is.
func nodeOf(key string) (types.NamespacedName, bool) {
	name, err := token.Decode(strings.TrimPrefix(key, kindHostSubnet+"."))
	return types.NamespacedName{Name: name}, err == nil
}

func (a *Adapter) storedNodes() (names []types.NamespacedName) {
	for entry := range a.bucket.Scan(kindHostSubnet+".", "") {
		if name, ok := nodeOf(entry.Key); ok {
			names = append(names, name)
		}
	}
	return names
}

// Run brings objects and the store of the observed bucket together until ctx ends.
func (a *Adapter) Run(ctx context.Context, b *bucket.Bucket, store *allocation.Store) error {
	a.bucket, a.store = b, store
	a.api.Use(b)
	return a.api.Run(ctx, kube.Work{Adopt: a.adopt, Controllers: []kube.Controller{
		{
			Name: "hostsubnet", Kinds: []client.Object{&corev1.Node{}, &networkv1.HostSubnet{}},
			Stored: a.nodes, Reconcile: a.reconcileHostSubnet, Workers: workers,
		},
		{Name: "clusternetwork", Kinds: []client.Object{&networkv1.ClusterNetwork{}}, Stored: a.network, Reconcile: a.reconcileClusterNetwork},
	}})
}

// adopt brings into the store what the objects have: first the plan, then every subnet. One that
// can not be taken over, as two nodes have it, say, is logged and said on its object when it is
// reconciled; it must not keep all others waiting.
func (a *Adapter) adopt(ctx context.Context) error {
	var networks networkv1.ClusterNetworkList
	if err := a.api.Direct().List(ctx, &networks); err != nil {
		return fmt.Errorf("list ClusterNetworks: %w", err)
	}
	for i := range networks.Items {
		if err := a.takePlan(ctx, &networks.Items[i]); err != nil && !refused(err) {
			return err
		}
	}
	if len(networks.Items) == 0 {
		if err := a.begin(ctx); err != nil {
			return err
		}
	}
	var subnets networkv1.HostSubnetList
	if err := a.api.Direct().List(ctx, &subnets); err != nil {
		return fmt.Errorf("list HostSubnets: %w", err)
	}
	// In order of name, so that of two that have the same the same one has it each time.
	slices.SortFunc(subnets.Items, func(x, y networkv1.HostSubnet) int { return strings.Compare(x.Name, y.Name) })
	for i := range subnets.Items {
		err := a.expect(ctx, &subnets.Items[i])
		switch {
		case isKind(err, allocation.NoClusterNetwork):
			return err // The first of all has to come.
		case refused(err):
			a.log.Warn("HostSubnet can not be taken over", "node", subnets.Items[i].Name, "error", err)
		case err != nil:
			return err
		}
	}
	return nil
}

// begin stores the initial plan, if there is one, in a store that has no plan. A person's
// object, even one that is refused, comes before it: then it is not called.
func (a *Adapter) begin(ctx context.Context) error {
	_, exists, _, err := a.store.ClusterNetwork(ctx)
	if err != nil || exists || a.initial == nil {
		return err
	}
	_, err = a.store.Create(ctx, *a.initial)
	return err
}

// problems are what is wrong with an object: each a reason, with the field.
type problems []string

func (p *problems) addf(field, format string, args ...any) {
	*p = append(*p, field+": "+fmt.Sprintf(format, args...))
}

func (p problems) err() error {
	if len(p) == 0 {
		return nil
	}
	return &invalid{strings.Join(p, "; ")}
}

// invalid is an object that says nothing that could be stored.
type invalid struct{ why string }

func (i *invalid) Error() string { return i.why }

// refused says whether an error is the object's fault, or of what there is beside it, so that
// trying again changes nothing.
func refused(err error) bool {
	var refusal *allocation.Refusal
	var bad *invalid
	return errors.As(err, &bad) || errors.As(err, &refusal) && refusal.Kind != allocation.Held && refusal.Kind != allocation.StaleRevision
}

func isKind(err error, kind allocation.Kind) bool {
	var refusal *allocation.Refusal
	return errors.As(err, &refusal) && refusal.Kind == kind
}

// reasons are those of the condition Accepted.
var reasons = map[allocation.Kind]string{
	allocation.NoClusterNetwork: "NoClusterNetwork", allocation.Overlap: "Overlap", allocation.InUse: "InUse", allocation.Exhausted: "Exhausted",
}

// accepted is the condition for what the store said.
func accepted(err error) metav1.Condition {
	c := metav1.Condition{Type: networkv1.ConditionAccepted, Status: metav1.ConditionTrue, Reason: "Accepted", Message: "in force as it is here"}
	if err != nil {
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, "Invalid", err.Error()
		var refusal *allocation.Refusal
		if errors.As(err, &refusal) && reasons[refusal.Kind] != "" {
			c.Reason = reasons[refusal.Kind]
		}
	}
	return c
}

// addressOf is a node's address for tunnel packets: its first internal one by IPv4.
func addressOf(n *corev1.Node) (netip.Addr, error) {
	for _, address := range n.Status.Addresses {
		if address.Type != corev1.NodeInternalIP {
			continue
		}
		if ip, err := netip.ParseAddr(address.Address); err == nil && ip.Is4() {
			return ip, nil
		}
	}
	return netip.Addr{}, &invalid{fmt.Sprintf("node %s has no InternalIP by IPv4 yet", n.Name)}
}

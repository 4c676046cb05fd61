package kube

import (
	"context"
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/internal/kube/networkv1"
)

// lodger is a Pod as its kubelet says that it is on the network.
type lodger struct {
	node    string
	address netip.Addr
	leaving bool // it is being deleted: its address may already be another's
}

// lodgers knows which addresses the cluster's Pods are said to have, and which addresses a
// node may have pods with: so a change of a node, or of an address, costs the Pods that it
// concerns.
type lodgers struct {
	changed func(...types.NamespacedName) // told of Pods that may count otherwise, and does not wait

	mu      sync.Mutex
	synced  func() bool
	subnets map[string]netip.Prefix // by node; invalid: the HostSubnet has none
	lodgers map[types.NamespacedName]lodger
	at      map[string]map[netip.Addr]map[types.NamespacedName]bool // by node
}

func newLodgers(changed func(...types.NamespacedName)) *lodgers {
	return &lodgers{
		changed: changed, subnets: map[string]netip.Prefix{},
		lodgers: map[types.NamespacedName]lodger{}, at: map[string]map[netip.Addr]map[types.NamespacedName]bool{},
	}
}

// follow follows Pods and HostSubnets.
func (l *lodgers) follow(ctx context.Context, from *kube.Adapter) error {
	_, err := from.Follow(ctx, &corev1.Pod{}, handler(l.podSeen, l.podGone))
	if err == nil {
		var synced func() bool
		synced, err = from.Follow(ctx, &networkv1.HostSubnet{}, handler(
			func(h *networkv1.HostSubnet) { l.subnetSeen(h.Name, h.Subnet) }, func(h *networkv1.HostSubnet) { l.subnetGone(h.Name) }))
		l.mu.Lock()
		l.synced = synced
		l.mu.Unlock()
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// handler tells functions of objects of a kind.
func handler[T client.Object](seen, gone func(T)) toolscache.ResourceEventHandler {
	call := func(f func(T), obj any) {
		if missed, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
			obj = missed.Obj
		}
		if o, ok := obj.(T); ok {
			f(o)
		}
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { call(seen, obj) },
		UpdateFunc: func(_, obj any) { call(seen, obj) },
		DeleteFunc: func(obj any) { call(gone, obj) },
	}
}

// lodgerOf answers what a Pod says of its address; false when it has none of its own.
func lodgerOf(pod *corev1.Pod) (lodger, bool) {
	address, err := netip.ParseAddr(pod.Status.PodIP)
	if err != nil || pod.Spec.HostNetwork || pod.Spec.NodeName == "" || hasEnded(pod) {
		return lodger{}, false
	}
	return lodger{node: pod.Spec.NodeName, address: address, leaving: pod.DeletionTimestamp != nil}, true
}

func hasEnded(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

func (l *lodgers) podSeen(pod *corev1.Pod) {
	next, has := lodgerOf(pod)
	l.move(client.ObjectKeyFromObject(pod), next, has)
}

func (l *lodgers) podGone(pod *corev1.Pod) {
	l.move(client.ObjectKeyFromObject(pod), lodger{}, false)
}

// move takes over where a Pod is said to be, if anywhere, and tells of it, and of those that
// are said to have the address that it had, or has.
func (l *lodgers) move(name types.NamespacedName, next lodger, has bool) {
	l.mu.Lock()
	was, had := l.lodgers[name]
	if has == had && was == next {
		l.mu.Unlock()
		return
	}
	concerned := []types.NamespacedName{name}
	if had {
		delete(l.lodgers, name)
		if delete(l.at[was.node][was.address], name); len(l.at[was.node][was.address]) == 0 {
			delete(l.at[was.node], was.address)
		}
		if len(l.at[was.node]) == 0 {
			delete(l.at, was.node)
		}
		concerned = append(concerned, l.sharing(was)...)
	}
	if has {
		concerned = append(concerned, l.sharing(next)...)
		l.lodgers[name] = next
		if l.at[next.node] == nil {
			l.at[next.node] = map[netip.Addr]map[types.NamespacedName]bool{}
		}
		if l.at[next.node][next.address] == nil {
			l.at[next.node][next.address] = map[types.NamespacedName]bool{}
		}
		l.at[next.node][next.address][name] = true
	}
	l.mu.Unlock()
	l.changed(concerned...)
}

// sharing answers who has an address. The caller holds the lock.
func (l *lodgers) sharing(of lodger) (names []types.NamespacedName) {
	for name := range l.at[of.node][of.address] {
		names = append(names, name)
	}
	return names
}

func (l *lodgers) subnetSeen(node, text string) {
	subnet, _ := netip.ParsePrefix(text) // What is none has no addresses.
	l.mu.Lock()
	was, had := l.subnets[node]
	l.subnets[node] = subnet
	l.mu.Unlock()
	if !had || was != subnet {
		l.changed(l.of(node)...)
	}
}

func (l *lodgers) subnetGone(node string) {
	l.mu.Lock()
	delete(l.subnets, node)
	l.mu.Unlock()
	l.changed(l.of(node)...)
}

// of answers the Pods that are said to have addresses on a node.
func (l *lodgers) of(node string) (names []types.NamespacedName) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, sharing := range l.at[node] {
		for name := range sharing {
			names = append(names, name)
		}
	}
	return names
}

// find answers where a Pod is said to be.
func (l *lodgers) find(name types.NamespacedName) (lodger, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, has := l.lodgers[name]
	return at, has
}

// taken says whether somebody else is said to have the address of a Pod, and to stay.
func (l *lodgers) taken(by lodger, besides types.NamespacedName) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name := range l.at[by.node][by.address] {
		if name != besides && !l.lodgers[name].leaving {
			return true
		}
	}
	return false
}

// subnet answers a node's range of addresses, and whether it has a HostSubnet. It answers
// false for known as long as not all of them were seen.
func (l *lodgers) subnet(node string) (subnet netip.Prefix, has, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	subnet, has = l.subnets[node]
	return subnet, has, has || l.synced != nil && l.synced()
}

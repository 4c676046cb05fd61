package kube

import (
	"strings"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/types"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/internal/token"
	"github.com/damask-sdn/damask/services/tenancy/policystore"
)

// Kinds of keys that matter here.
const (
	kindNamespace = "netnamespace"
	kindPod       = "pod"
	kindIsolation = "isolation"
)

// clusterNetwork is the name of the one ClusterNetwork.
var clusterNetwork = types.NamespacedName{Name: "default"}

// stored tells reconcilers what changes in the store.
type stored struct {
	bucket     *bucket.Bucket
	newest     atomic.Uint64 // Revision of the newest change that was told.
	namespaces *kube.Feed
	pods       *kube.Feed
	mode       *kube.Feed
	policies   map[string]*kube.Feed // by kind

	mu      sync.Mutex
	waiting map[types.NamespacedName]bool // Namespaces to which something was refused.
}

func newStored() *stored {
	s := &stored{waiting: map[types.NamespacedName]bool{}, policies: map[string]*kube.Feed{}}
	s.namespaces = kube.NewFeed(func() []types.NamespacedName { return s.all(kindNamespace + ".") })
	s.pods = kube.NewFeed(func() []types.NamespacedName { return s.all(kindPod + ".") })
	s.mode = kube.NewFeed(func() []types.NamespacedName { return []types.NamespacedName{clusterNetwork} })
	for _, kind := range policyKinds {
		s.policies[kind.Kind] = kube.NewFeed(func() []types.NamespacedName {
			return s.all(bucket.Key(policystore.Kind, kind.Kind) + ".")
		})
	}
	return s
}

func (s *stored) use(b *bucket.Bucket) { s.bucket = b }

// all answers the objects of the keys below a prefix.
func (s *stored) all(prefix string) (names []types.NamespacedName) {
	for entry := range s.bucket.Scan(prefix, "") {
		if _, name, ok := nameOf(entry.Key); ok {
			names = append(names, name)
		}
	}
	return names
}

// nameOf answers the kind of a key, for a policy its own, and the name of its object.
func nameOf(key string) (kind string, name types.NamespacedName, ok bool) {
	kind, rest, _ := strings.Cut(key, ".")
	var names []string
	for part := range strings.SplitSeq(rest, ".") {
		text, err := token.Decode(part)
		if err != nil {
			return "", types.NamespacedName{}, false
		}
		names = append(names, text)
	}
	if kind == policystore.Kind {
		kind, names = names[0], names[1:]
	}
	switch len(names) {
	case 1:
		return kind, types.NamespacedName{Name: names[0]}, true
	case 2:
		return kind, types.NamespacedName{Namespace: names[0], Name: names[1]}, true
	}
	return "", types.NamespacedName{}, false
}

func (s *stored) observe(changes []bucket.Change, reset bool) {
	if reset {
		s.newest.Store(0) // Another store counts anew.
	}
	for _, c := range changes {
		kind, name, ok := nameOf(c.Key)
		if !ok {
			continue
		}
		feed, isPolicy := s.policies[kind]
		switch {
		case kind == kindNamespace:
			s.tell(c, s.namespaces, append(s.refused(), name)...)
		case kind == kindIsolation:
			s.tell(c, s.mode, clusterNetwork)
			s.tell(c, s.namespaces, s.refused()...)
		case kind == kindPod:
			s.tell(c, s.pods, name)
			if namespace := (types.NamespacedName{Name: name.Namespace}); c.Deleted && s.isRefused(namespace) {
				s.tell(c, s.namespaces, namespace)
			}
		case isPolicy:
			s.tell(c, feed, name)
		}
	}
}

func (s *stored) tell(c bucket.Change, feed *kube.Feed, names ...types.NamespacedName) {
	for known := s.newest.Load(); known < c.Revision && !s.newest.CompareAndSwap(known, c.Revision); {
		known = s.newest.Load()
	}
	feed.Changed(names...)
}

// doubt says that something may be refused to a namespace, which other namespaces, its
// pods or the mode could change; settle, that nothing is.
func (s *stored) doubt(name types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting[name] = true
}

func (s *stored) settle(name types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, name)
}

func (s *stored) isRefused(name types.NamespacedName) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting[name]
}

func (s *stored) refused() (names []types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.waiting {
		names = append(names, name)
	}
	return names
}

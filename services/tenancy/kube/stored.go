package kube

import (
	"strings"

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
	kindReported  = "reported"
)

// clusterNetwork is the name of the one ClusterNetwork.
var clusterNetwork = types.NamespacedName{Name: "default"}

// stored tells reconcilers what changes in the store.
type stored struct {
	bucket     *bucket.Bucket
	namespaces *kube.Feed
	pods       *kube.Feed
	mode       *kube.Feed
	policies   map[string]*kube.Feed // by kind
	waiting    kube.Waiting          // Namespaces to which something was refused.
	reported   func(node string)     // told when the mark of a node comes or goes
}

func newStored() *stored {
	s := &stored{policies: map[string]*kube.Feed{}}
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

func (s *stored) use(b *bucket.Bucket, reported func(node string)) {
	s.bucket, s.reported = b, reported
}

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

// observe tells of changes. What is refused to a namespace may be changed by other
// namespaces, its pods, or the mode.
func (s *stored) observe(changes []bucket.Change) {
	for _, c := range changes {
		kind, name, ok := nameOf(c.Key)
		if !ok {
			continue
		}
		feed, isPolicy := s.policies[kind]
		switch {
		case kind == kindNamespace:
			s.namespaces.Changed(append(s.waiting.All(), name)...)
		case kind == kindIsolation:
			s.mode.Changed(clusterNetwork)
			s.namespaces.Changed(s.waiting.All()...)
		case kind == kindReported && s.reported != nil:
			s.reported(name.Name)
		case kind == kindPod:
			s.pods.Changed(name)
			if namespace := (types.NamespacedName{Name: name.Namespace}); c.Deleted && s.waiting.Has(namespace) {
				s.namespaces.Changed(namespace)
			}
		case isPolicy:
			feed.Changed(name)
		}
	}
}

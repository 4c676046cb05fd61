package selectors

import (
	"maps"
	"slices"
	"sync"

	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/servicelb/catalog"
)

// pair is a label in a namespace.
type pair struct {
	namespace, key, value string
}

// podName names a pod.
type podName struct {
	namespace, name string
}

// board knows pods by their labels, and services by one label that they select,
// so that a change of a pod costs what selects it, and a change of a service
// what it selects. It is safe for concurrent use.
type board struct {
	mu        sync.Mutex
	pods      map[podName]*tenancyv1.Pod
	labelled  map[pair]map[podName]bool
	selectors map[catalog.Name]map[string]string
	selecting map[pair]map[catalog.Name]bool // by the selector's first label
	revision  uint64                         // of the newest change of a pod
}

func newBoard() *board {
	return &board{
		pods: map[podName]*tenancyv1.Pod{}, labelled: map[pair]map[podName]bool{},
		selectors: map[catalog.Name]map[string]string{}, selecting: map[pair]map[catalog.Name]bool{},
	}
}

// setPod takes over what read answers to be the pod's present state, nil when
// it is gone, and answers the services that the change concerns. read is called
// under the board's lock, so that of two changes at once the later one stays.
func (b *board) setPod(namespace, name string, revision uint64, read func() *tenancyv1.Pod) []catalog.Name {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.revision = max(b.revision, revision)
	id := podName{namespace, name}
	pod, former := read(), b.pods[id]
	for key, value := range former.GetLabels() {
		leave(b.labelled, pair{namespace, key, value}, id)
	}
	for key, value := range pod.GetLabels() {
		enter(b.labelled, pair{namespace, key, value}, id)
	}
	if pod == nil {
		delete(b.pods, id)
	} else {
		b.pods[id] = pod
	}
	concerned := map[catalog.Name]bool{}
	for _, labels := range []map[string]string{former.GetLabels(), pod.GetLabels()} {
		for key, value := range labels {
			for service := range b.selecting[pair{namespace, key, value}] {
				if matches(b.selectors[service], labels) {
					concerned[service] = true
				}
			}
		}
	}
	return slices.Collect(maps.Keys(concerned))
}

// setService takes over a service's selector; s is nil when it is gone or has
// none. It answers the pods that may be behind it, and up to which change of the
// registry they are right.
func (b *board) setService(name catalog.Name, s *servicelbv1.Service) (pods []*tenancyv1.Pod, asOf uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if former := b.selectors[name]; former != nil {
		leave(b.selecting, first(name.Namespace, former), name)
		delete(b.selectors, name)
	}
	if len(s.GetSelector()) == 0 {
		return nil, b.revision
	}
	b.selectors[name] = s.GetSelector()
	enter(b.selecting, first(name.Namespace, s.GetSelector()), name)
	for id := range b.fewest(name.Namespace, s.GetSelector()) {
		pods = append(pods, b.pods[id])
	}
	return pods, b.revision
}

// reached says that the board has all changes up to a revision.
func (b *board) reached(revision uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.revision = max(b.revision, revision)
}

// fewest answers the pods that have one of the selector's labels: the one that
// the fewest have.
func (b *board) fewest(namespace string, selector map[string]string) map[podName]bool {
	var best map[podName]bool
	chosen := false
	for key, value := range selector {
		if set := b.labelled[pair{namespace, key, value}]; !chosen || len(set) < len(best) {
			best, chosen = set, true
		}
	}
	return best
}

// services answers the services that have a selector.
func (b *board) services() []catalog.Name {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Keys(b.selectors))
}

// first answers the label by which a selector is found.
func first(namespace string, selector map[string]string) pair {
	key := slices.Sorted(maps.Keys(selector))[0]
	return pair{namespace, key, selector[key]}
}

func enter[K, N comparable](index map[K]map[N]bool, key K, name N) {
	if index[key] == nil {
		index[key] = map[N]bool{}
	}
	index[key][name] = true
}

func leave[K, N comparable](index map[K]map[N]bool, key K, name N) {
	if delete(index[key], name); len(index[key]) == 0 {
		delete(index, key)
	}
}

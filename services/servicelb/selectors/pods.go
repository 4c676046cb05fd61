package selectors

import (
	"sync"

	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/servicelb/catalog"
)

// board knows the pods and the selectors of each namespace, so that a change
// costs what its namespace has, not the cluster. It is safe for concurrent use.
type board struct {
	mu        sync.Mutex
	pods      map[string]map[string]*tenancyv1.Pod    // by namespace and name
	selectors map[string]map[string]map[string]string // by namespace and service
}

func newBoard() *board {
	return &board{pods: map[string]map[string]*tenancyv1.Pod{}, selectors: map[string]map[string]map[string]string{}}
}

// setPod takes over what read answers to be the pod's present state, nil when
// it is gone, and answers the services that the change concerns. read is called
// under the board's lock, so that of two changes at once the later one stays.
func (b *board) setPod(namespace, name string, read func() *tenancyv1.Pod) []catalog.Name {
	b.mu.Lock()
	defer b.mu.Unlock()
	pod, former := read(), b.pods[namespace][name]
	switch {
	case pod == nil:
		if delete(b.pods[namespace], name); len(b.pods[namespace]) == 0 {
			delete(b.pods, namespace)
		}
	case b.pods[namespace] == nil:
		b.pods[namespace] = map[string]*tenancyv1.Pod{name: pod}
	default:
		b.pods[namespace][name] = pod
	}
	var concerned []catalog.Name
	for service, selector := range b.selectors[namespace] {
		if matches(selector, former.GetLabels()) || matches(selector, pod.GetLabels()) {
			concerned = append(concerned, catalog.Name{Namespace: namespace, Name: service})
		}
	}
	return concerned
}

// setService takes over a service's selector; s is nil when it is gone or has
// none. It answers the pods that may be behind it.
func (b *board) setService(name catalog.Name, s *servicelbv1.Service) []*tenancyv1.Pod {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s == nil {
		if delete(b.selectors[name.Namespace], name.Name); len(b.selectors[name.Namespace]) == 0 {
			delete(b.selectors, name.Namespace)
		}
		return nil
	}
	if b.selectors[name.Namespace] == nil {
		b.selectors[name.Namespace] = map[string]map[string]string{}
	}
	b.selectors[name.Namespace][name.Name] = s.GetSelector()
	pods := make([]*tenancyv1.Pod, 0, len(b.pods[name.Namespace]))
	for _, pod := range b.pods[name.Namespace] {
		pods = append(pods, pod)
	}
	return pods
}

// services answers the services that have a selector.
func (b *board) services() []catalog.Name {
	b.mu.Lock()
	defer b.mu.Unlock()
	var names []catalog.Name
	for namespace, services := range b.selectors {
		for service := range services {
			names = append(names, catalog.Name{Namespace: namespace, Name: service})
		}
	}
	return names
}

package kube

import (
	"maps"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// mentions knows which objects are to be looked at when something that they mention is
// another: addresses that others have, names that are looked up. The zero value is ready.
type mentions struct {
	mu      sync.Mutex
	in      map[types.NamespacedName][]string // by object
	objects map[string]map[types.NamespacedName]bool
}

// set replaces what an object mentions.
func (m *mentions) set(object types.NamespacedName, all []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.in == nil {
		m.in, m.objects = map[types.NamespacedName][]string{}, map[string]map[types.NamespacedName]bool{}
	}
	for _, text := range m.in[object] {
		if delete(m.objects[text], object); len(m.objects[text]) == 0 {
			delete(m.objects, text)
		}
	}
	if len(all) == 0 {
		delete(m.in, object)
		return
	}
	m.in[object] = slices.Clone(all)
	for _, text := range all {
		if m.objects[text] == nil {
			m.objects[text] = map[types.NamespacedName]bool{}
		}
		m.objects[text][object] = true
	}
}

// of answers which objects mention something.
func (m *mentions) of(text string) []types.NamespacedName {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Keys(m.objects[text]))
}

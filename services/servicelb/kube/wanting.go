package kube

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// wanting knows which services want what others have, so that none asks again and again.
type wanting struct {
	mu    sync.Mutex
	names map[types.NamespacedName]bool
}

// set says whether a service wants something that it has not.
func (w *wanting) set(name types.NamespacedName, wants bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !wants {
		delete(w.names, name)
		return
	}
	if w.names == nil {
		w.names = map[types.NamespacedName]bool{}
	}
	w.names[name] = true
}

// all answers who wants anything.
func (w *wanting) all() []types.NamespacedName {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := make([]types.NamespacedName, 0, len(w.names))
	for name := range w.names {
		list = append(list, name)
	}
	return list
}

package group

import "github.com/damask-sdn/damask/services/tenancy/selector"

// An index finds things by a label: what has it, or what can only be fulfilled
// by it.
type index[T comparable] map[selector.Label]map[T]struct{}

func (x index[T]) put(label selector.Label, thing T) {
	if x[label] == nil {
		x[label] = map[T]struct{}{}
	}
	x[label][thing] = struct{}{}
}

func (x index[T]) drop(label selector.Label, thing T) {
	delete(x[label], thing)
	if len(x[label]) == 0 {
		delete(x, label)
	}
}

// add puts the thing at each of the labels.
func (x index[T]) add(thing T, labels map[string]string) {
	for k, v := range labels {
		x.put(selector.Label{Key: k, Value: v}, thing)
	}
}

// remove undoes add.
func (x index[T]) remove(thing T, labels map[string]string) {
	for k, v := range labels {
		x.drop(selector.Label{Key: k, Value: v}, thing)
	}
}

// each visits what is at any of the labels, perhaps more than once.
func (x index[T]) each(labels map[string]string, visit func(T)) {
	if len(x) == 0 {
		return
	}
	for k, v := range labels {
		for thing := range x[selector.Label{Key: k, Value: v}] {
			visit(thing)
		}
	}
}

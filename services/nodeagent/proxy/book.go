package proxy

import (
	"errors"
	"fmt"
	"slices"
)

// Book is what an engine has programmed, with an index of who claims what, so that a
// change is checked at the cost of the change and not of all services. Not safe for
// concurrent use. The zero value is an empty book.
type Book struct {
	services State
	owners   map[claim]Key
}

// Step is one service port before and after a change. Old nil: it is new. New nil: it
// goes. They are the book's own: do not change them.
type Step struct {
	Key      Key
	Old, New *Service
}

// Replace makes the book hold exactly the state, which must have passed its Check.
func (b *Book) Replace(state State) {
	b.services = make(State, len(state))
	b.owners = make(map[claim]Key, len(state))
	for key, service := range state {
		b.services[key] = service
		for _, c := range service.claims() {
			b.owners[c] = key
		}
	}
}

// Steps answers what turns the book into the state, in no order: a step for each
// service of either, also where nothing differs.
func (b *Book) Steps(state State) []Step {
	steps := make([]Step, 0, len(state))
	for key, service := range state {
		step := Step{Key: key, New: &service}
		if old, ok := b.services[key]; ok {
			step.Old = &old
		}
		steps = append(steps, step)
	}
	for key, old := range b.services {
		if _, stays := state[key]; !stays {
			steps = append(steps, Step{Key: key, Old: &old})
		}
	}
	return steps
}

// Len is how many service ports the book holds.
func (b *Book) Len() int { return len(b.services) }

// Service answers one service port.
func (b *Book) Service(key Key) (Service, bool) {
	s, ok := b.services[key]
	return s, ok
}

// Plan checks changes and answers them as steps, in the order of keys, each key once
// (its last change wins). Keys that are not there and shall not be are left out. It
// does not change the book: Commit does, once the steps are in the kernel.
func (b *Book) Plan(changes []Change) ([]Step, error) {
	last := map[Key]*Service{}
	var problems []error
	for _, c := range changes {
		if c.Service != nil {
			if c.Service.Key != c.Key {
				problems = append(problems, fmt.Errorf("change of %v (%s) holds service %v (%s)", c.Key, c.Key.Protocol, c.Service.Key, c.Service.Protocol))
			}
			problems = append(problems, c.Service.Check())
		}
		last[c.Key] = c.Service
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	var steps []Step
	for key, wish := range last {
		step := Step{Key: key, New: wish}
		if old, ok := b.services[key]; ok {
			step.Old = &old
		}
		if step.Old != nil || step.New != nil {
			steps = append(steps, step)
		}
	}
	slices.SortFunc(steps, func(x, y Step) int { return x.Key.Compare(y.Key) })
	return steps, b.conflicts(steps)
}

// conflicts answers an error that names every claim of a step's new service that
// another service keeps or takes too.
func (b *Book) conflicts(steps []Step) error {
	changed := map[Key]bool{}
	for _, s := range steps {
		changed[s.Key] = true
	}
	var problems []error
	taken := map[claim]Key{}
	for _, s := range steps {
		if s.New == nil {
			continue
		}
		for _, c := range s.New.claims() {
			if owner, ok := b.owners[c]; ok && !changed[owner] {
				problems = append(problems, fmt.Errorf("services %v and %v both claim %v", owner, s.Key, c))
			}
			if owner, ok := taken[c]; ok {
				problems = append(problems, fmt.Errorf("services %v and %v both claim %v", owner, s.Key, c))
			}
			taken[c] = s.Key
		}
	}
	return errors.Join(problems...)
}

// Commit writes steps of Plan into the book.
func (b *Book) Commit(steps []Step) {
	if b.services == nil {
		b.Replace(nil)
	}
	for _, s := range steps {
		if s.Old == nil {
			continue
		}
		for _, c := range s.Old.claims() {
			delete(b.owners, c)
		}
		delete(b.services, s.Key)
	}
	for _, s := range steps {
		if s.New == nil {
			continue
		}
		b.services[s.Key] = *s.New
		for _, c := range s.New.claims() {
			b.owners[c] = s.Key
		}
	}
}

package intent

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
)

// Status is how far the node is with one object.
type Status struct {
	Object
	Wanted     uint64
	Programmed uint64
	// Err is why the last try did not work, or why what is in force is not all of the
	// object; nil when it did, and is.
	Err error
	// Flows is how many flows the object has; only pods and HostSubnets have
	// flows of their own. Of a policy, how many it uses.
	Flows int
}

// progress remembers, for each object, what is in force.
type progress struct {
	mu      sync.Mutex
	done    map[Object]uint64
	errs    map[Object]error
	changed chan struct{} // closed and replaced at every record
}

func newProgress() *progress {
	return &progress{done: map[Object]uint64{}, errs: map[Object]error{}, changed: make(chan struct{})}
}

func (p *progress) record(revisions map[Object]uint64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for o, r := range revisions {
		if err != nil {
			p.errs[o] = err
			continue
		}
		delete(p.errs, o)
		p.done[o] = max(p.done[o], r)
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *progress) refuse(o Object, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.errs[o] = err
}

func (p *progress) forget(o Object) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.done, o)
	delete(p.errs, o)
}

// of answers the revision in force, a channel that is closed when that may have
// changed, and the object's last error.
func (p *progress) of(o Object) (done uint64, changed <-chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done[o], p.changed, p.errs[o]
}

// WaitProgrammed answers when the object is in force at the revision or a later
// one; followed is false, at once, when this node does not follow it. When ctx
// ends first, the error is the object's last error, or that of ctx.
func (p *Programmer) WaitProgrammed(ctx context.Context, o Object, revision uint64) (followed bool, programmed uint64, err error) {
	for {
		done, changed, last := p.progress.of(o)
		if done >= revision {
			return true, done, nil
		}
		if _, follows := p.state.Revision(o); !follows {
			return false, 0, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if last != nil {
				return true, done, last
			}
			return true, done, ctx.Err()
		}
	}
}

// Statuses answers how far the node is with every object, by kind and name.
func (p *Programmer) Statuses() []Status {
	var all []Status
	crowded := p.state.crowdedPolicies()
	for o, wanted := range p.state.Objects() {
		done, _, err := p.progress.of(o)
		s := Status{Object: o, Wanted: wanted, Programmed: done, Err: err}
		switch o.Kind {
		case KindHostSubnet:
			s.Flows = len(p.state.compile(hostSubnetOwner(o.Name)))
		case KindPolicy:
			s.Flows = p.state.policyFlows(o.Name)
			if why, is := crowded[o.Name]; is && err == nil {
				s.Err = errors.New(why)
			}
		}
		all = append(all, s)
	}
	for _, pod := range p.state.Pods() {
		_, _, err := p.progress.of(pod.object())
		all = append(all, Status{Object: pod.object(), Err: err, Flows: len(p.state.compile(pod.Owner()))})
	}
	slices.SortFunc(all, func(a, b Status) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return all
}

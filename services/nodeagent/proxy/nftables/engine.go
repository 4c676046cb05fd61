package nftables

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// Engine programs services into nftables. Its methods can be called from any goroutine
// and act in the network namespace of the calling thread.
type Engine struct {
	node proxy.Node

	mu     sync.Mutex // one change at a time
	kernel kernel
	// synced says that book and uses are what the kernel has.
	synced bool
	book   proxy.Book
	uses   uses
}

// New makes an engine for a node. It touches nothing. A node that does not pass its
// Check is an error.
func New(node proxy.Node) (*Engine, error) {
	if err := node.Check(); err != nil {
		return nil, err
	}
	return &Engine{node: node}, nil
}

// Sync makes the table what the state says, and sends only what differs, as one
// transaction. See proxy.Engine.
func (e *Engine) Sync(ctx context.Context, state proxy.State) (proxy.Changes, error) {
	if err := check(state); err != nil {
		return proxy.Changes{}, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.synced = false
	want, uses := items{}, newUses()
	for _, service := range state {
		needs := compile(service)
		uses.count(needs, 1)
		for i := range needs.items {
			want[i] = struct{}{}
		}
	}
	changes, err := e.reconcile(ctx, want, uses)
	if err != nil {
		return proxy.Changes{}, errors.Join(fmt.Errorf("sync services: %w", err), e.kernel.close())
	}
	e.book.Replace(state)
	e.uses, e.synced = uses, true
	return changes, nil
}

// check refuses a state that is wrong, or too large.
func check(state proxy.State) error {
	problems := []error{state.Check()}
	for _, service := range state {
		problems = append(problems, checkSize(service))
	}
	return errors.Join(problems...)
}

// reconcile compares the table with what is wanted and sends the difference.
func (e *Engine) reconcile(ctx context.Context, want items, uses uses) (proxy.Changes, error) {
	if err := e.kernel.connect(); err != nil {
		return proxy.Changes{}, err
	}
	choices := uses.ordered()
	chains := append(standing(e.node), balances(choices)...)
	shapes := standingShapes()
	for _, c := range choices {
		chains = append(chains, choosing(c))
		shapes = append(shapes, frontends(c.name()))
	}
	there, err := e.kernel.read(chains)
	if err != nil {
		return proxy.Changes{}, err
	}
	t, changes, err := difference(there, shapes, chains, want)
	if err != nil {
		return proxy.Changes{}, err
	}
	if err := ctx.Err(); err != nil {
		return proxy.Changes{}, err
	}
	if t.empty() {
		return changes, nil
	}
	if err := e.kernel.commit(t); err != nil {
		return proxy.Changes{}, err
	}
	return changes, nil
}

// Apply changes the services named, as one transaction. See proxy.Engine.
func (e *Engine) Apply(ctx context.Context, changes ...proxy.Change) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.synced {
		return errors.New("apply services: nothing was synced before, or the last change failed")
	}
	steps, err := e.book.Plan(changes)
	if err != nil {
		return err
	}
	t, by, err := e.plan(steps)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if t.empty() {
		e.book.Commit(steps)
		return nil
	}
	e.synced = false
	if err := e.apply(t); err != nil {
		return errors.Join(fmt.Errorf("apply services: %w", err), e.kernel.close())
	}
	e.uses.add(by)
	e.book.Commit(steps)
	e.synced = true
	return nil
}

func (e *Engine) apply(t transaction) error {
	before := e.kernel.namespace
	if err := e.kernel.connect(); err != nil {
		return err
	}
	if e.kernel.namespace != before {
		return errors.New("another network namespace was synced before")
	}
	return e.kernel.commit(t)
}

// plan is the transaction for some steps, and by how much uses change.
func (e *Engine) plan(steps []proxy.Step) (t transaction, by uses, err error) {
	old, wanted := items{}, items{}
	by = newUses()
	for _, step := range steps {
		if step.Old != nil {
			needs := compile(*step.Old)
			by.count(needs, -1)
			old.addAll(needs.items)
		}
		if step.New != nil {
			if err := checkSize(*step.New); err != nil {
				return t, by, err
			}
			needs := compile(*step.New)
			by.count(needs, 1)
			wanted.addAll(needs.items)
		}
	}
	t.added, t.taken = wanted.without(old), old.without(wanted)
	t.forgotten = forgotten(t.taken, wanted)
	e.uses.settle(t, by)
	before := e.uses.ordered()
	after := e.uses.orderedWith(by)
	for _, c := range after {
		if !slices.Contains(before, c) {
			t.sets, t.chains = append(t.sets, frontends(c.name())), append(t.chains, choosing(c))
		}
	}
	for _, c := range before {
		if !slices.Contains(after, c) {
			t.goneSets, t.goneChains = append(t.goneSets, c.name()), append(t.goneChains, c.name())
		}
	}
	if len(t.sets)+len(t.goneSets) > 0 {
		t.chains = append(t.chains, balances(after)...)
	}
	return t, by, nil
}

// Cleanup takes the table out. See proxy.Engine.
func (e *Engine) Cleanup(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.synced = false
	if err := ctx.Err(); err != nil {
		return err
	}
	err := e.kernel.connect()
	if err == nil {
		err = e.kernel.remove()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("clean up services: %w", err), e.kernel.close())
	}
	return nil
}

// Close ends the engine's connection to the kernel. What is programmed stays.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.synced = false
	return e.kernel.close()
}

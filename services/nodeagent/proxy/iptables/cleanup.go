package iptables

import (
	"context"
	"slices"

	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// Cleanup takes out our jumps and chains; see proxy.Engine. Somebody else's rule that
// jumps to one of our chains holds that chain, which is an error; the chain is empty then.
func (e *Engine) Cleanup(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.synced = false
	has, err := e.kernel.dump(ctx)
	if err != nil {
		return err
	}
	plan := e.newParts()
	b := plan.then()
	for _, p := range parents() {
		b.delete(p.place, within(has[p.place], p.jumps))
	}
	var fixed []place
	for _, f := range slices.Backward(fixedChains(e.node, e.randomFully)) {
		if has[f.place] != nil {
			b.flush(f.place)
			fixed = append(fixed, f.place)
		}
	}
	plan.dropServices(has, nil)
	last := plan.then()
	for _, at := range fixed {
		last.drop(at, has[at])
	}
	if err := e.send(ctx, plan.batches...); err != nil {
		return err
	}
	e.book = proxy.Book{}
	return nil
}

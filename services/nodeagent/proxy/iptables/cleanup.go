package iptables

import (
	"context"
	"slices"

	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// Cleanup takes out our jumps and chains; see proxy.Engine. Somebody else's rule that
// jumps to one of our chains holds that chain: then nothing of its table is taken out, and the
// error says which.
func (e *Engine) Cleanup(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.synced = false
	has, err := e.programs.dump(ctx)
	if err != nil {
		return err
	}
	b := newBatch()
	for _, p := range parents() {
		b.delete(p.place, within(has[p.place], p.jumps))
	}
	fixed := fixedChains(e.node, e.randomFully)
	for _, at := range sortedPlaces(has) {
		isFixed := slices.ContainsFunc(fixed, func(f fixedChain) bool { return f.place == at })
		if isFixed || at.table == tableNAT && isServiceChain(at.chain) {
			b.drop(at, has[at])
		}
	}
	if err := e.programs.send(ctx, b); err != nil {
		return err
	}
	e.book = proxy.Book{}
	return nil
}

package iptables

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// rewriteShare: when more than one in so many rules of a chain must go, writing the
// chain anew is cheaper. iptables looks for each rule to delete through the whole chain.
const rewriteShare = 8

// wish is everything that the state makes of our chains.
type wish struct {
	chains map[place][]string   // of service ports and backends
	blocks map[place][][]string // in fixed chains: one block a service address
}

// Sync makes the kernel's rules what the state says; see proxy.Engine.
func (e *Engine) Sync(ctx context.Context, state proxy.State) (proxy.Changes, error) {
	if err := state.Check(); err != nil {
		return proxy.Changes{}, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.untouched() {
		return e.syncUntouched(ctx, state)
	}
	e.synced, e.seen = false, 0
	now := e.kernel.generation() // before the dump: who writes meanwhile is noticed next time
	has, err := e.kernel.dump(ctx)
	if err != nil {
		return proxy.Changes{}, err
	}
	plan := e.newParts()
	want := e.wish(state)
	plan.writeServices(has, want.chains)
	b := plan.then()
	if err := e.makeFixedChains(has, b); err != nil {
		return proxy.Changes{}, err
	}
	for _, f := range fixedChains(e.node, e.randomFully) {
		b.compareFixed(f, has[f.place], want.blocks[f.place])
	}
	late := b.compareJumps(has)
	plan.dropServices(has, want.chains)
	if err := e.send(ctx, plan.batches...); err != nil {
		return proxy.Changes{}, err
	}
	if err := e.putJumps(late, b); err != nil {
		return proxy.Changes{}, err
	}
	flows := stepFlows(e.book.Steps(state))
	e.book.Replace(state)
	e.synced = true
	changes := plan.changes()
	if changes.None() {
		e.seen = now
	}
	return changes, forgetStale(flows)
}

// wish compiles the whole state.
func (e *Engine) wish(state proxy.State) wish {
	w := wish{chains: make(map[place][]string, len(state)), blocks: map[place][][]string{}}
	// In the order of keys: equal states make equal rules, also where order means nothing.
	for _, key := range slices.SortedFunc(maps.Keys(state), proxy.Key.Compare) {
		f := e.compiler.compile(state[key])
		for _, c := range f.chains {
			w.chains[place{tableNAT, c.name}] = notNil(c.rules)
		}
		blocks := bySpot(f.entries)
		for _, at := range spots(f.entries) {
			w.blocks[at.place] = append(w.blocks[at.place], blocks[at])
		}
	}
	return w
}

// makeFixedChains makes the fixed chains that are missing, empty as yet.
func (e *Engine) makeFixedChains(has saved, b *batch) error {
	for _, f := range fixedChains(e.node, e.randomFully) {
		if has[f.place] != nil {
			continue
		}
		if err := e.command.NewChain(f.place.table, f.place.chain); err != nil {
			return fmt.Errorf("make chain %s of table %s: %w", f.place.chain, f.place.table, err)
		}
		has[f.place] = []string{}
		b.added++
	}
	return nil
}

// writeServices adds what makes the chains of services right. Chains that are jumped
// to come before those that jump, so that each part can stand alone.
func (p *parts) writeServices(has saved, want map[place][]string) {
	sorted := sortedPlaces(want)
	for _, prefix := range slices.Backward(dropOrder()) {
		for _, at := range sorted {
			if there := has[at]; strings.HasPrefix(at.chain, prefix) && (there == nil || !slices.Equal(there, want[at])) {
				p.open().write(at, there, want[at])
			}
		}
	}
}

// sortedPlaces lists chains by table and name: equal states make equal batches.
func sortedPlaces(chains map[place][]string) []place {
	all := make([]place, 0, len(chains))
	for at := range chains {
		all = append(all, at)
	}
	slices.SortFunc(all, func(a, b place) int {
		if a.table != b.table {
			return strings.Compare(a.table, b.table)
		}
		return strings.Compare(a.chain, b.chain)
	})
	return all
}

// compareFixed adds what makes a fixed chain right: the services' blocks in any order,
// then the chain's own rules. What is missing is put in and what is too much is taken
// out, one by one: a chain with much too much, or damaged otherwise, is written anew.
func (b *batch) compareFixed(f fixedChain, has []string, blocks [][]string) {
	all := slices.Concat(slices.Concat(blocks...), f.rules)
	extra := without(has, all)
	stays := without(has, extra)
	start := len(stays) - len(f.rules)
	many := rewriteShare*len(extra) > len(all)
	if many || repeated(stays) || start < 0 || !slices.Equal(stays[start:], f.rules) {
		b.write(f.place, has, all)
		return
	}
	b.delete(f.place, extra)
	at := make(map[string]int, len(stays))
	for i, r := range stays {
		at[r] = i
	}
	for _, block := range blocks {
		there := slices.DeleteFunc(slices.Clone(block), func(r string) bool { _, is := at[r]; return !is })
		slices.SortFunc(there, func(x, y string) int { return at[x] - at[y] })
		b.exchange(f.place, there, block)
	}
}

// repeated says that a rule is there twice.
func repeated(rules []string) bool {
	seen := make(map[string]bool, len(rules))
	for _, r := range rules {
		if seen[r] {
			return true
		}
		seen[r] = true
	}
	return false
}

// compareJumps answers the built-in chains that have none of our jumps: those get
// them once the chains are filled. Where some are missing, doubled or out of place, all
// of ours go and come back to the top, in one step with the rest.
func (b *batch) compareJumps(has saved) (late []parent) {
	for _, p := range parents() {
		ours := within(has[p.place], p.jumps)
		switch {
		case jumpsRight(has[p.place], p.jumps):
		case len(ours) == 0:
			late = append(late, p)
		default:
			b.delete(p.place, ours)
			b.insert(p.place, p.jumps)
		}
	}
	return late
}

// within answers the rules of a list that are in another, in their order.
func within(list, other []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(r string) bool { return !slices.Contains(other, r) })
}

// putJumps puts our jumps to the top of built-in chains that have none.
func (e *Engine) putJumps(parents []parent, b *batch) error {
	for _, p := range parents {
		for _, jump := range slices.Backward(p.jumps) {
			if err := e.command.Insert(p.place.table, p.place.chain, 1, words(jump)...); err != nil {
				return fmt.Errorf("jump from %s of table %s: %w", p.place.chain, p.place.table, err)
			}
			b.added++
		}
	}
	return nil
}

// words splits a rule of ours for a command line. Only comments hold blanks.
func words(rule string) []string {
	before, quoted, found := strings.Cut(rule, `"`)
	if !found {
		return strings.Fields(rule)
	}
	comment, after, _ := strings.Cut(quoted, `"`)
	return slices.Concat(strings.Fields(before), []string{comment}, strings.Fields(after))
}

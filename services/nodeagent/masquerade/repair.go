package masquerade

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// step is one change of a chain. Positions count from 1, in the chain as it is after
// the steps before.
type step struct {
	insert   bool
	position int
	rule     rule
	named    bool // a deletion says which rule and not which position
}

// change is what is done to a chain.
type change struct {
	table, chain string
	steps        []step
}

// place is one rule of a chain while plan works on it.
type place struct {
	rule rule
	goes bool // not wanted: deleted at the end
	want int  // index in the wanted rules, -1 for others'
}

// plan answers the steps that give a chain the wanted rules, each once and in their
// order. Of the rules that are there only those that mine accepts are ours to delete;
// others may stand anywhere between. As many rules as possible stay in place.
//
// Inserts come first, from the top, then deletions, from the bottom: at no moment is
// a wanted rule missing that was there before. A missing rule goes right before the
// next one that is there, else after the one before it, else to the top: what other
// programs put into a built-in chain may accept or drop what our jump is about.
func plan(has, want []rule, mine func(rule) bool) []step {
	var ours []rule
	var at []int
	for i, r := range has {
		if mine(r) {
			ours, at = append(ours, r), append(at, i)
		}
	}
	chain := make([]place, len(has))
	for i, r := range has {
		chain[i] = place{rule: r, goes: mine(r), want: -1}
	}
	for w, partner := range longestCommon(ours, want) {
		chain[at[partner]] = place{rule: want[w], want: w}
	}
	var steps []step
	for w := range want {
		if index(chain, w) >= 0 {
			continue
		}
		i := whereto(chain, w)
		chain = slices.Insert(chain, i, place{rule: want[w], want: w})
		steps = append(steps, step{insert: true, position: i + 1, rule: want[w]})
	}
	for i, p := range slices.Backward(chain) {
		if p.goes {
			steps = append(steps, step{position: i + 1, rule: p.rule})
		}
	}
	return steps
}

// index answers where a wanted rule is, -1 if nowhere.
func index(chain []place, want int) int {
	return slices.IndexFunc(chain, func(p place) bool { return p.want == want })
}

// whereto answers where a wanted rule is to be inserted.
func whereto(chain []place, want int) int {
	if next := slices.IndexFunc(chain, func(p place) bool { return p.want > want }); next >= 0 {
		return next
	}
	if want == 0 {
		return 0
	}
	return index(chain, want-1) + 1
}

// longestCommon answers, for indexes of want, the index of its partner in has, such
// that partners are in the same order and as many as possible.
func longestCommon(has, want []rule) map[int]int {
	partners := map[int]int{}
	// Most of a chain is as it should be: what is alike at both ends costs nothing.
	first := 0
	for first < len(want) && first < len(has) && same(want[first], has[first]) {
		partners[first] = first
		first++
	}
	has, want = has[first:], want[first:]
	for len(want) > 0 && len(has) > 0 && same(want[len(want)-1], has[len(has)-1]) {
		partners[first+len(want)-1] = first + len(has) - 1
		has, want = has[:len(has)-1], want[:len(want)-1]
	}
	length := make([][]int, len(want)+1)
	for i := range length {
		length[i] = make([]int, len(has)+1)
	}
	for w := len(want) - 1; w >= 0; w-- {
		for h := len(has) - 1; h >= 0; h-- {
			if same(want[w], has[h]) {
				length[w][h] = length[w+1][h+1] + 1
			} else {
				length[w][h] = max(length[w+1][h], length[w][h+1])
			}
		}
	}
	for w, h := 0, 0; w < len(want) && h < len(has); {
		switch {
		case same(want[w], has[h]):
			partners[first+w] = first + h
			w, h = w+1, h+1
		case length[w+1][h] >= length[w][h+1]:
			w++
		default:
			h++
		}
	}
	return partners
}

// list answers a chain's rules.
func (r *Rules) list(table, name string) ([]rule, error) {
	lines, err := r.command.List(table, name)
	if err != nil {
		return nil, fmt.Errorf("list rules: %w", err)
	}
	var rules []rule
	for _, line := range lines {
		parsed, ok, err := parseRule(line, name)
		if err != nil {
			return nil, err
		}
		if ok {
			rules = append(rules, parsed)
		}
	}
	return rules, nil
}

// ensureChain makes one chain of ours right.
func (r *Rules) ensureChain(ctx context.Context, c chain, there bool) (repairs []string, err error) {
	var has []rule
	switch {
	case !there:
		if err := r.command.NewChain(c.table, c.name); err != nil {
			return nil, fmt.Errorf("create it: %w", err)
		}
		repairs = append(repairs, fmt.Sprintf("iptables: table %s: chain %s created", c.table, c.name))
	case !c.keep:
		if has, err = r.list(c.table, c.name); err != nil {
			return nil, err
		}
	}
	mine := func(r rule) bool { return c.spare == nil || !c.spare(r) }
	steps := plan(has, c.rules, mine)
	if len(steps) == 0 {
		return repairs, nil
	}
	if err := r.command.Restore(ctx, []change{{c.table, c.name, steps}}); err != nil {
		return repairs, err
	}
	return append(repairs, c.lines(steps)...), nil
}

// lines answers what is said of steps.
func (c chain) lines(steps []step) (repairs []string) {
	for _, s := range steps {
		verb := "deleted"
		if s.insert {
			verb = "inserted"
		}
		repairs = append(repairs, fmt.Sprintf("iptables: table %s: chain %s: rule %s %s", c.table, c.name, s.rule, verb))
	}
	return repairs
}

// ensureJumps makes our jumps from a built-in chain right.
func (r *Rules) ensureJumps(ctx context.Context, p parent) (repairs []string, err error) {
	has, err := r.list(p.table, p.name)
	if err != nil {
		return nil, err
	}
	mine := func(r rule) bool {
		return slices.ContainsFunc(p.jumps, func(j rule) bool { return target(r) == target(j) })
	}
	for _, s := range plan(has, p.jumps, mine) {
		if err := ctx.Err(); err != nil {
			return repairs, err
		}
		verb := "inserted"
		if s.insert {
			err = r.command.Insert(p.table, p.name, s.position, s.rule...)
		} else {
			verb = "deleted"
			err = r.deleteShared(p, s)
		}
		if err != nil {
			return repairs, fmt.Errorf("rule %q: %w", s.rule, err)
		}
		repairs = append(repairs, fmt.Sprintf("iptables: table %s: chain %s: rule %s %s", p.table, p.name, s.rule, verb))
	}
	return repairs, nil
}

// deleteShared deletes a rule of a chain that other programs change too. It looks
// again first: the position may be somebody else's rule by now.
func (r *Rules) deleteShared(p parent, s step) error {
	line, err := r.command.ListById(p.table, p.name, s.position)
	if err != nil {
		return fmt.Errorf("look at position %d again: %w", s.position, err)
	}
	has, ok, err := parseRule(line, p.name)
	if err != nil {
		return err
	}
	if !ok || !same(has, s.rule) {
		return errors.New("somebody changes the chain at the same time")
	}
	return r.command.DeleteById(p.table, p.name, s.position)
}

// target answers the chain that a rule jumps to.
func target(r rule) string {
	if i := slices.Index(r, "-j"); i >= 0 && i+1 < len(r) {
		return r[i+1]
	}
	return ""
}

package iptables

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// pretend is a kernel in memory that is as strict as the real one: it refuses to jump
// to a chain that is not there, to delete a rule that is not there, and to take out a
// chain that has rules or that something jumps to.
type pretend struct {
	chains saved
	sent   int // batches that were not empty
	dumps  int
	// commits counts what anybody changed, as the nft backend's generation does.
	commits uint32
}

// newPretend is a kernel with its built-in chains and somebody else's rules in them.
func newPretend() *pretend {
	k := &pretend{chains: saved{}}
	for _, p := range parents() {
		k.chains[p.place] = []string{"-s 203.0.113.0/24 -j DROP"}
	}
	k.chains[place{tableNAT, "FOREIGN"}] = []string{"-j ACCEPT"}
	return k
}

func (k *pretend) generation() uint32 { return 1 + k.commits }

func (k *pretend) dump(context.Context) (saved, error) {
	k.dumps++
	// By way of the text, as in life.
	var text strings.Builder
	for _, table := range []string{tableNAT, tableFilter} {
		text.WriteString("*" + table + "\n")
		for _, at := range sortedPlaces(k.chains) {
			if at.table == table {
				text.WriteString(":" + at.chain + " - [0:0]\n")
			}
		}
		for _, at := range sortedPlaces(k.chains) {
			if at.table == table {
				for _, r := range k.chains[at] {
					text.WriteString("-A " + at.chain + " " + r + "\n")
				}
			}
		}
		text.WriteString("COMMIT\n")
	}
	return parseSave(text.String())
}

// send does what iptables-restore --noflush does with the batch's text.
func (k *pretend) send(_ context.Context, b *batch) error {
	if b.empty() {
		return nil
	}
	k.sent++
	next := maps.Clone(k.chains)
	table := ""
	for _, line := range strings.Split(strings.TrimSpace(string(b.text())), "\n") {
		if line[0] == '*' {
			table = line[1:]
			continue
		}
		if line == "COMMIT" {
			k.chains = maps.Clone(next)
			k.commits++
			continue
		}
		if err := line1(next, table, line); err != nil {
			return fmt.Errorf("line %q: %w", line, err)
		}
	}
	return nil
}

// line1 does one line.
func line1(chains saved, table, line string) error {
	if line[0] == ':' {
		name, _, _ := strings.Cut(line[1:], " ")
		chains[place{table, name}] = []string{}
		return nil
	}
	verb, rest, _ := strings.Cut(line, " ")
	name, rule, _ := strings.Cut(rest, " ")
	at := place{table, name}
	has, there := chains[at]
	if !there {
		return errors.New("no such chain")
	}
	if to := jumpsTo(rule); strings.HasPrefix(to, "KUBE-") && chains[place{table, to}] == nil {
		return errors.New("jump to no chain")
	}
	switch verb {
	case "-A":
		chains[at] = append(slices.Clone(has), rule)
	case "-I":
		chains[at] = slices.Insert(slices.Clone(has), 0, rule)
	case "-D":
		i := slices.Index(has, rule)
		if i < 0 {
			return errors.New("no such rule")
		}
		chains[at] = slices.Delete(slices.Clone(has), i, i+1)
	case "-X":
		for from, rules := range chains {
			if from.table == table && slices.ContainsFunc(rules, func(r string) bool { return jumpsTo(r) == name }) {
				return fmt.Errorf("%s jumps to it", from.chain)
			}
		}
		if len(has) > 0 {
			return errors.New("it has rules")
		}
		delete(chains, at)
	default:
		return errors.New("no such verb")
	}
	return nil
}

// jumpsTo answers the target of a rule.
func jumpsTo(rule string) string {
	_, target, _ := strings.Cut(" "+rule, " -j ")
	target, _, _ = strings.Cut(target, " ")
	return target
}

// NewChain and Insert are what the engine does through go-iptables.
func (k *pretend) NewChain(table, chain string) error {
	at := place{table, chain}
	if k.chains[at] != nil {
		return errors.New("the chain is there already")
	}
	k.chains[at] = []string{}
	k.commits++
	return nil
}

func (k *pretend) Insert(table, chain string, position int, words ...string) error {
	if position != 1 {
		return errors.New("not to the top")
	}
	for i, w := range words {
		if strings.Contains(w, " ") {
			words[i] = `"` + w + `"`
		}
	}
	k.commits++
	return line1(k.chains, table, "-I "+chain+" "+strings.Join(words, " "))
}

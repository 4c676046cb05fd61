package idle

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
)

// lockSeconds is how long an iptables command waits for the lock that all iptables
// commands of a machine share.
const lockSeconds = 5

const table = "raw"

// entrances are the built-in chains that lead to ours: packets that arrive, and those
// that the node itself sends.
var entrances = []string{"PREROUTING", "OUTPUT"}

// chains are the commands by which the kernel's rules are read and written.
type chains struct{ save, restore string }

// findChains finds the commands that belong to an iptables command.
func findChains(program string) (chains, error) {
	c := chains{save: program + "-save", restore: program + "-restore"}
	for _, command := range []string{c.save, c.restore} {
		if _, err := exec.LookPath(command); err != nil {
			return chains{}, fmt.Errorf("this node has no %s command (Debian: package iptables): %w", command, err)
		}
	}
	return c, nil
}

// read answers the rules of each chain of the table. A chain without rules has an
// entry.
func (c chains) read(ctx context.Context) (map[string][]string, error) {
	out, err := run(exec.CommandContext(ctx, c.save, "-t", table))
	if err != nil {
		return nil, err
	}
	return parseTable(out), nil
}

// send writes a batch in one transaction; an empty one starts no process.
func (c chains) send(ctx context.Context, batch string) error {
	if batch == "" {
		return nil
	}
	cmd := exec.CommandContext(ctx, c.restore, "--noflush", "--wait", fmt.Sprint(lockSeconds))
	cmd.Stdin = strings.NewReader(batch)
	_, err := run(cmd)
	return err
}

// parseTable reads what iptables-save printed of our table.
func parseTable(text string) map[string][]string {
	has := map[string][]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \r\n")
		if chain, ok := strings.CutPrefix(line, ":"); ok {
			name, _, _ := strings.Cut(chain, " ")
			has[name] = append([]string{}, has[name]...)
		} else if rule, ok := strings.CutPrefix(line, "-A "); ok {
			name, rest, _ := strings.Cut(rule, " ")
			has[name] = append(has[name], rest)
		}
	}
	return has
}

// difference answers what iptables-restore has to do, empty if nothing.
func difference(has map[string][]string, want ruleset) string {
	var declare, rules, remove []string
	for _, chain := range slices.Sorted(maps.Keys(has)) {
		if _, wanted := want[chain]; !wanted && (chain == chainIdle || strings.HasPrefix(chain, chainIdle+"-")) {
			declare = append(declare, ":"+chain+" - [0:0]") // empties it
			remove = append(remove, "-X "+chain)
		}
	}
	for _, chain := range slices.Sorted(maps.Keys(want)) {
		there, ok := has[chain]
		if !ok || chain == chainHold && !slices.Equal(there, want[chain]) { // its order counts
			declare = append(declare, ":"+chain+" - [0:0]")
			there = nil
		}
		rules = append(rules, changes(chain, there, want[chain])...)
	}
	for _, entrance := range entrances {
		var ours, jumps []string
		for _, rule := range has[entrance] {
			if strings.HasSuffix(rule, "-j "+chainIdle) || strings.HasSuffix(rule, "-g "+chainIdle) {
				ours = append(ours, rule)
			}
		}
		if len(want) > 0 {
			jumps = []string{jumpRule}
		}
		rules = append(rules, changes(entrance, ours, jumps)...)
	}
	if len(declare)+len(rules)+len(remove) == 0 {
		return ""
	}
	return "*" + table + "\n" + strings.Join(slices.Concat(declare, rules, remove), "\n") + "\nCOMMIT\n"
}

// changes answers the commands that give a chain the wanted rules, each once: first
// what is missing, at its end, then what is too many. Others' rules that stand before
// our jump are obeyed before a packet waits: what an administrator drops in this table
// must not wake a service.
func changes(chain string, has, want []string) []string {
	missing := map[string]bool{}
	for _, rule := range want {
		missing[rule] = true
	}
	var extra, add []string
	for _, rule := range has {
		if missing[rule] {
			delete(missing, rule)
		} else {
			extra = append(extra, "-D "+chain+" "+rule)
		}
	}
	for _, rule := range want {
		if missing[rule] {
			add = append(add, "-A "+chain+" "+rule)
		}
	}
	return append(add, extra...)
}

// run runs a command to its end. An error holds what it said.
func run(cmd *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if said := strings.TrimSpace(stderr.String()); said != "" {
			err = fmt.Errorf("%w: %s", err, said)
		}
		return "", fmt.Errorf("%s: %w", cmd.Args[0], err)
	}
	return stdout.String(), nil
}

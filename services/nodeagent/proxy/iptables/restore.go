package iptables

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
)

// lockSeconds is how long an iptables command waits for the lock that all iptables
// commands of a machine share.
const lockSeconds = 5

// batch is one input of iptables-restore --noflush. Of each table it is taken as a
// whole or not at all.
type batch struct {
	tables map[string]*section
	// added and removed count chains and rules, as proxy.Changes does.
	added, removed int
}

// section is the part of a batch for one table, in the order that it is sent: chains
// are emptied or made, rules come and go, chains that nothing jumps to any more go.
type section struct {
	declare, rules, remove []string
}

func newBatch() *batch { return &batch{tables: map[string]*section{tableNAT: {}, tableFilter: {}}} }

// empty says that there is nothing to send.
func (b *batch) empty() bool { return b.commits() == 0 }

// commits is how many tables it changes, each in a commit of its own.
func (b *batch) commits() (n uint32) {
	for _, s := range b.tables {
		if len(s.declare)+len(s.rules)+len(s.remove) > 0 {
			n++
		}
	}
	return n
}

// chains is how many chains the batch writes or takes out.
func (b *batch) chains() int {
	n := 0
	for _, s := range b.tables {
		n += len(s.declare)
	}
	return n
}

// write makes a chain hold exactly the rules, whether it was there or not.
func (b *batch) write(at place, has, want []string) {
	s := b.tables[at.table]
	s.declare = append(s.declare, ":"+at.chain+" - [0:0]")
	for _, r := range want {
		s.rules = append(s.rules, "-A "+at.chain+" "+r)
	}
	b.added += len(want)
	b.removed += len(has)
	if has == nil {
		b.added++ // the chain itself: an empty one is not nothing
	}
}

// flush empties a chain that is there.
func (b *batch) flush(at place) {
	s := b.tables[at.table]
	s.declare = append(s.declare, ":"+at.chain+" - [0:0]")
}

// drop takes a chain out, with its rules.
func (b *batch) drop(at place, has []string) {
	s := b.tables[at.table]
	s.declare = append(s.declare, ":"+at.chain+" - [0:0]")
	s.remove = append(s.remove, "-X "+at.chain)
	b.removed += len(has) + 1
}

// insert puts rules, in their order, to the top of a chain.
func (b *batch) insert(at place, rules []string) {
	s := b.tables[at.table]
	for _, r := range slices.Backward(rules) {
		s.rules = append(s.rules, "-I "+at.chain+" "+r)
	}
	b.added += len(rules)
}

// delete takes rules out of a chain, each at its first occurrence.
func (b *batch) delete(at place, rules []string) {
	s := b.tables[at.table]
	for _, r := range rules {
		s.rules = append(s.rules, "-D "+at.chain+" "+r)
	}
	b.removed += len(rules)
}

// text is the input of iptables-restore.
func (b *batch) text() []byte {
	var out bytes.Buffer
	for _, table := range []string{tableNAT, tableFilter} {
		s := b.tables[table]
		if len(s.declare)+len(s.rules)+len(s.remove) == 0 {
			continue
		}
		out.WriteString("*" + table + "\n")
		for _, lines := range [][]string{s.declare, s.rules, s.remove} {
			for _, line := range lines {
				out.WriteString(line)
				out.WriteByte('\n')
			}
		}
		out.WriteString("COMMIT\n")
	}
	return out.Bytes()
}

// programs are the commands of one backend of iptables.
type programs struct {
	save, restore string
	nft           bool // the nft backend
}

// programsOf finds the commands that belong to an iptables command.
func programsOf(program string) (programs, error) {
	p := programs{save: program + "-save", restore: program + "-restore"}
	for _, command := range []string{program, p.save, p.restore} {
		if _, err := exec.LookPath(command); err != nil {
			return programs{}, fmt.Errorf("this node has no %s command (Debian: package iptables): %w", command, err)
		}
	}
	// "iptables v1.8.9 (nf_tables)"; the legacy backend says "(legacy)" or nothing.
	version, err := run(exec.Command(program, "--version"))
	if err != nil {
		return programs{}, fmt.Errorf("ask for the version: %w", err)
	}
	p.nft = strings.Contains(version, "(nf_tables)")
	return p, nil
}

// dump reads all rules.
func (p programs) dump(ctx context.Context) (saved, error) {
	out, err := run(exec.CommandContext(ctx, p.save))
	if err != nil {
		return nil, fmt.Errorf("dump rules: %w", err)
	}
	return parseSave(out)
}

// send writes a batch, in one process. An empty batch starts none.
func (p programs) send(ctx context.Context, b *batch) error {
	if b.empty() {
		return nil
	}
	cmd := exec.CommandContext(ctx, p.restore, "--noflush", "--wait", fmt.Sprint(lockSeconds))
	cmd.Stdin = bytes.NewReader(b.text())
	if _, err := run(cmd); err != nil {
		return fmt.Errorf("write rules: %w", err)
	}
	return nil
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

package masquerade

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"

	"github.com/coreos/go-iptables/iptables"
)

// command is what is used of iptables.
type command interface {
	ListChains(table string) ([]string, error)
	List(table, chain string) ([]string, error)
	NewChain(table, chain string) error
	Insert(table, chain string, position int, rule ...string) error
	ListById(table, chain string, position int) (string, error)
	DeleteById(table, chain string, position int) error
	// Restore makes all steps in a table, or none. After an error some tables may be changed.
	Restore(ctx context.Context, changes []change) error
	ClearAndDeleteChain(table, chain string) error
}

// program is a kind of iptables, with the restore that belongs to it.
type program struct {
	*iptables.IPTables
	restore string
}

// newProgram finds iptables by name or path. A node without it is an error that says so.
func newProgram(name string) (*program, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return nil, fmt.Errorf("this node has no iptables command (Debian: package iptables): %w", err)
	}
	restore, err := exec.LookPath(path + "-restore")
	if err != nil {
		return nil, fmt.Errorf("this node has iptables, and no iptables-restore beside it: %w", err)
	}
	c, err := iptables.New(iptables.IPFamily(iptables.ProtocolIPv4), iptables.Path(path), iptables.Timeout(lockSeconds))
	if err != nil {
		return nil, fmt.Errorf("find iptables: %w", err)
	}
	return &program{c, restore}, nil
}

// Restore is command's.
func (p *program) Restore(ctx context.Context, changes []change) error {
	var input strings.Builder
	for _, c := range changes {
		fmt.Fprintf(&input, "*%s\n", c.table)
		for _, s := range c.steps {
			switch {
			case s.insert:
				fmt.Fprintf(&input, "-I %s %d %s\n", c.chain, s.position, s.rule)
			case s.named:
				fmt.Fprintf(&input, "-D %s %s\n", c.chain, s.rule)
			default:
				fmt.Fprintf(&input, "-D %s %d\n", c.chain, s.position)
			}
		}
		input.WriteString("COMMIT\n")
	}
	cmd := exec.CommandContext(ctx, p.restore, "--noflush", "--wait", strconv.Itoa(lockSeconds))
	cmd.Stdin = strings.NewReader(input.String())
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", p.restore, err), errors.New(strings.TrimSpace(output.String())))
	}
	return nil
}

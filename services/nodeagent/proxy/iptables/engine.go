// Package iptables is the service engine that writes kube-proxy's chains.
//
// It owns, in the tables nat and filter, the chains KUBE-SERVICES, KUBE-NODEPORTS,
// KUBE-MARK-MASQ, KUBE-POSTROUTING, KUBE-EXTERNAL-SERVICES, KUBE-PROXY-FIREWALL and
// KUBE-FORWARD, those that begin with KUBE-SVC-, KUBE-SVL-, KUBE-EXT-, KUBE-FW- and
// KUBE-SEP-, and the jumps from built-in chains that fixed.go lists. Names and rules
// are those that operators know from kube-proxy.
//
// It promises what package proxytest says. Of the cost it promises: a change of
// backends is one process that writes the chains of that service and nothing else;
// KUBE-SERVICES and KUBE-NODEPORTS are changed rule by rule, and only when a service's
// own addresses change. What it cannot help: a new connection passes the rules of
// KUBE-SERVICES one by one, the legacy backend copies its whole table for each change,
// and on the nft backend the kernel validates all rules that can be reached for each
// (docs/decisions/022-one-change-on-the-nft-backend.md).
//
// It must not run beside kube-proxy: both would own the same chains. It must not touch
// other chains, not even others that begin with KUBE-. In built-in chains it touches
// nothing but its own jumps.
//
// Affinity is the kernel's match "recent". It remembers as many clients for a backend as
// its module parameter ip_list_tot says, 100 unless the administrator set more.
//
// Rules go to whichever backend (nft, legacy) the node's iptables command is.
package iptables

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/coreos/go-iptables/iptables"

	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// DefaultProgram is the command of the backend that the host uses.
const DefaultProgram = "iptables"

// command is what is used of go-iptables.
type command interface {
	NewChain(table, chain string) error
	Insert(table, chain string, position int, rule ...string) error
}

// kernel is where the rules are.
type kernel interface {
	dump(ctx context.Context) (saved, error)
	send(ctx context.Context, b *batch) error
	// generation counts the changes that anybody made to rules; 0: nobody counts.
	generation() uint32
}

// Engine writes the rules of one node. Make it with New.
type Engine struct {
	node        proxy.Node
	compiler    compiler
	kernel      kernel
	command     command
	partChains  int // of one process, 0: any number
	randomFully bool

	mu     sync.Mutex // one change at a time; guards what follows
	synced bool       // the book is what the kernel has
	seen   uint32     // the generation at which it was so; 0: unknown
	book   proxy.Book
}

// New makes an engine for a node. program is the iptables command: DefaultProgram, or
// iptables-nft or iptables-legacy to choose a backend. It writes nothing yet.
func New(node proxy.Node, program string) (*Engine, error) {
	if err := node.Check(); err != nil {
		return nil, err
	}
	found, err := programsOf(program)
	if err != nil {
		return nil, err
	}
	c, err := iptables.New(iptables.IPFamily(iptables.ProtocolIPv4), iptables.Path(program), iptables.Timeout(lockSeconds))
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", program, err)
	}
	e := &Engine{node: node, compiler: compiler{node}, kernel: found, command: c, randomFully: c.HasRandomFully()}
	if found.nft {
		// The legacy backend copies its whole table for each process: there all in one.
		e.partChains = partChains
	}
	return e, nil
}

// Apply changes only the services named; see proxy.Engine. The rules of one call take
// effect together in each table.
func (e *Engine) Apply(ctx context.Context, changes ...proxy.Change) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.synced {
		return errors.New("iptables engine: Apply needs a Sync that succeeded before")
	}
	steps, err := e.book.Plan(changes)
	if err != nil {
		return err
	}
	b := newBatch()
	for _, step := range steps {
		e.replace(b, step)
	}
	if err := e.send(ctx, b); err != nil {
		e.synced = false
		return err
	}
	e.book.Commit(steps)
	return forgetStale(stepFlows(steps))
}

// replace adds to a batch what a step changes.
func (e *Engine) replace(b *batch, step proxy.Step) {
	var old, wish fragment
	if step.Old != nil {
		old = e.compiler.compile(*step.Old)
	}
	if step.New != nil {
		wish = e.compiler.compile(*step.New)
	}
	b.replace(old, wish)
}

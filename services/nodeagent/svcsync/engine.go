package svcsync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// manyChanges is from how many changed service ports on everything is compared instead:
// an engine sends a load in parts, and a change in one.
const manyChanges = 500

// compareShare bounds what comparing takes of the engine's time to one part in so many:
// changes wait meanwhile. It matters to iptables alone, whose rules are read in half a
// minute when there are 10,000 services.
const compareShare = 20

// Maker makes an engine for a node. It touches nothing yet.
type Maker func(proxy.Node) (proxy.Engine, error)

// Engines are the engines of a node.
type Engines struct {
	// Name is what the log calls the chosen one.
	Name string
	// Chosen is to program the node.
	Chosen Maker
	// Others may have programmed it when it was configured otherwise. What they left is
	// taken out once the chosen one's rules are in force, so that nothing is cut.
	Others map[string]Maker
}

// engineError is an error of the engine, in which all services have a part.
type engineError struct{ error }

func (e engineError) Unwrap() error { return e.error }

// engine is the chosen engine, with what is known of the kernel.
type engine struct {
	engines Engines
	metrics *Metrics
	log     hclog.Logger

	node   proxy.Node
	chosen proxy.Engine
	// rested is when the next comparison that nobody asked for may begin.
	rested time.Time
	synced bool // the kernel has what the ledger told, as far as we know
	// leftover are the others that have not been cleaned up yet.
	leftover   map[string]Maker
	complained bool // a leftover that did not go was logged
}

func newEngine(engines Engines, metrics *Metrics, log hclog.Logger) *engine {
	e := &engine{engines: engines, metrics: metrics, log: log, leftover: map[string]Maker{}}
	for name, other := range engines.Others {
		e.leftover[name] = other
	}
	return e
}

// use sees that the engine is one for this node as it is now.
func (e *engine) use(node proxy.Node) error {
	if e.chosen != nil && reflect.DeepEqual(e.node, node) {
		return nil
	}
	chosen, err := e.engines.Chosen(node)
	if err != nil {
		return engineError{fmt.Errorf("make engine %s: %w", e.engines.Name, err)}
	}
	e.close()
	e.chosen, e.node, e.synced = chosen, node, false
	return nil
}

// close lets go of the engine. What it programmed stays.
func (e *engine) close() {
	if closer, ok := e.chosen.(io.Closer); ok {
		if err := closer.Close(); err != nil {
			e.log.Debug("engine not closed", "engine", e.engines.Name, "error", err)
		}
	}
}

// program brings the kernel to what the ledger says. With compare it also sees whether
// the kernel still has what it had; repaired is what differed.
func (e *engine) program(ctx context.Context, l *ledger, compare bool) (repaired proxy.Changes, err error) {
	if e.synced && len(l.touched) <= manyChanges {
		if err := e.apply(ctx, l); err != nil || !compare {
			return repaired, err
		}
	}
	began, knew := time.Now(), e.synced && len(l.touched) == 0
	changes, err := e.chosen.Sync(ctx, l.state)
	if err != nil {
		return repaired, e.failed(fmt.Errorf("compare %d service ports: %w", len(l.state), err))
	}
	l.told()
	e.synced = true
	took := time.Since(began)
	e.rested = time.Now().Add(compareShare * took)
	e.metrics.compared(took, changes)
	message := "services programmed"
	if knew {
		repaired, message = changes, "services repaired"
		e.metrics.repaired(changes)
	}
	if !changes.None() {
		e.log.Info(message, "engine", e.engines.Name, "service_ports", len(l.state),
			"added", changes.Added, "removed", changes.Removed, "took", took)
	}
	e.cleanUp(ctx)
	return repaired, nil
}

// apply sends what has changed.
func (e *engine) apply(ctx context.Context, l *ledger) error {
	changes := l.changes()
	if len(changes) == 0 {
		return nil
	}
	began := time.Now()
	if err := e.chosen.Apply(ctx, changes...); err != nil {
		return e.failed(fmt.Errorf("change %d service ports: %w", len(changes), err))
	}
	e.metrics.applied(time.Since(began), len(changes))
	l.told()
	return nil
}

// failed remembers that what the kernel has is not known.
func (e *engine) failed(err error) error {
	e.synced = false
	e.metrics.failed.Inc()
	return engineError{err}
}

// cleanUp takes out what other engines left. What does not go is tried again when
// everything is compared the next time.
func (e *engine) cleanUp(ctx context.Context) {
	for name, other := range e.leftover {
		made, err := other(e.node)
		if err == nil {
			err = made.Cleanup(ctx)
			if closer, ok := made.(io.Closer); ok {
				err = errors.Join(err, closer.Close())
			}
		}
		if err == nil {
			delete(e.leftover, name)
		} else if ctx.Err() == nil && !e.complained {
			e.complained = true
			e.log.Warn("rules of the other engine not taken out, the next comparison tries again", "engine", name, "error", err)
		}
	}
}

package openflow

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrOutcomeUnknown says that a bundle was committed and no answer came: all of it is applied, or nothing.
var ErrOutcomeUnknown = errors.New("whether the switch applied the changes is not known")

// A Refusal is one change that the switch would not make.
type Refusal struct {
	Index int // Of the change, in what was given to Bundle.
	Mod   Mod
	Cause error // A SwitchError.
}

// RefusedError says that a bundle was refused and that nothing of it is applied.
type RefusedError struct {
	Refusals []Refusal // By index. Empty when the switch blamed no change.
	Cause    error     // What the switch said of the bundle as a whole; nil when it never got to the commit.
}

// shownRefusals bounds the length of an error's text.
const shownRefusals = 10

// Error names the refused flows, the first ten of them.
func (e *RefusedError) Error() string {
	var texts []string
	for _, r := range e.Refusals[:min(shownRefusals, len(e.Refusals))] {
		texts = append(texts, fmt.Sprintf("%s %q: %v", r.Mod.Command, r.Mod.Flow, r.Cause))
	}
	if more := len(e.Refusals) - shownRefusals; more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	if texts == nil {
		texts = append(texts, fmt.Sprint(e.Cause))
	}
	return "the switch refused: " + strings.Join(texts, "; ")
}

// Unwrap gives errors.As and errors.Is each SwitchError.
func (e *RefusedError) Unwrap() []error {
	var causes []error
	for _, r := range e.Refusals {
		causes = append(causes, r.Cause)
	}
	if e.Cause != nil {
		causes = append(causes, e.Cause)
	}
	return causes
}

// Bundle makes all changes at once, in their order, or none of them, and returns when they are made. The error is a
// *RefusedError (nothing is applied, and the flows are named), or wraps ErrOutcomeUnknown, or nothing is applied.
//
// A message that is refused while it is added does not spoil a bundle: the switch would commit the others. So the commit
// waits for the answer to a barrier after the last one.
func (c *Conn) Bundle(ctx context.Context, mods []Mod) error {
	if len(mods) == 0 {
		return nil
	}
	for _, m := range mods {
		if err := m.Flow.Check(); err != nil {
			return fmt.Errorf("%s %w", m.Command, err)
		}
	}
	e, err := c.open(len(mods) + 3)
	if err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	defer c.forget(e)
	b := &bundle{conn: c, exchange: e, mods: mods, id: c.bundleID()}
	if err := b.add(ctx); err != nil {
		b.discard(ctx)
		return fmt.Errorf("add to bundle: %w", err)
	}
	if b.refused() {
		b.discard(ctx)
		return b.refusal()
	}
	return b.commit(ctx)
}

func (c *Conn) bundleID() uint32 {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.bundles++
	return c.bundles
}

// A bundle is one Bundle under way. Of its transaction ids the first is to open it, then comes one a change, then the
// barrier, and the last is to commit or discard it.
type bundle struct {
	conn     *Conn
	exchange *exchange
	mods     []Mod
	id       uint32
	refusals []Refusal
	cause    error
}

func (b *bundle) barrierXID() uint32 { return b.exchange.last - 1 }

// add opens the bundle, adds everything to it, and collects what the switch has to say up to the barrier. It writes in
// chunks, so that others get a turn while a long bundle is sent.
func (b *bundle) add(ctx context.Context) error {
	next := 0
	for opened, closed := false, false; !closed; {
		err := b.conn.write(ctx, func(buf []byte) []byte {
			if !opened {
				opened = true
				buf = appendBundleControl(buf, b.exchange.first, b.id, bundleOpen)
			}
			for ; next < len(b.mods) && len(buf) < writeChunk; next++ {
				buf = appendBundleAdd(buf, b.exchange.first+1+uint32(next), b.id, b.mods[next])
			}
			if next == len(b.mods) {
				closed = true
				buf = appendSimple(buf, typeBarrierRequest, b.barrierXID())
			}
			return buf
		})
		if err != nil {
			return err
		}
	}
	for {
		m, err := b.conn.reply(ctx, b.exchange)
		if err != nil {
			return err
		}
		if m.xid == b.barrierXID() && m.kind == typeBarrierReply {
			return nil
		}
		if err := b.take(m); err != nil {
			return err
		}
	}
}

// take notes the error of a change or of the bundle itself.
func (b *bundle) take(m message) error {
	if m.kind != typeError {
		return nil
	}
	cause := decodeError(m.body)
	index := int(m.xid) - int(b.exchange.first) - 1
	if index < 0 || index >= len(b.mods) {
		return cause
	}
	b.refusals = append(b.refusals, Refusal{Index: index, Mod: b.mods[index], Cause: cause})
	return nil
}

func (b *bundle) refused() bool { return len(b.refusals) > 0 || b.cause != nil }

func (b *bundle) refusal() error {
	slices.SortFunc(b.refusals, func(x, y Refusal) int { return cmp.Compare(x.Index, y.Index) })
	return &RefusedError{Refusals: b.refusals, Cause: b.cause}
}

// commit makes the changes. While it executes them, the switch blames the change that failed before it answers.
func (b *bundle) commit(ctx context.Context) error {
	err := b.conn.write(ctx, func(buf []byte) []byte {
		return appendBundleControl(buf, b.exchange.last, b.id, bundleCommit)
	})
	if errors.Is(err, ErrClosed) {
		return fmt.Errorf("commit bundle: %w: %w", ErrOutcomeUnknown, err)
	}
	if err != nil {
		b.discard(ctx) // The context ended while others wrote: nothing was sent.
		return fmt.Errorf("commit bundle: %w", err)
	}
	for {
		m, err := b.conn.reply(ctx, b.exchange)
		switch {
		case err != nil:
			return fmt.Errorf("commit bundle: %w: %w", ErrOutcomeUnknown, err)
		case m.xid == b.exchange.last && m.kind == typeError:
			b.cause = decodeError(m.body)
			return b.refusal()
		case m.xid == b.exchange.last:
			return nil
		}
		if err := b.take(m); err != nil {
			return fmt.Errorf("commit bundle: %w: %w", ErrOutcomeUnknown, err)
		}
	}
}

// discard throws away what was added. Nobody waits for the answer, and a context that has ended does not keep it back:
// an abandoned bundle would hold memory in the switch until it times out.
func (b *bundle) discard(ctx context.Context) {
	_ = b.conn.write(context.WithoutCancel(ctx), func(buf []byte) []byte {
		return appendBundleControl(buf, b.exchange.last, b.id, bundleDiscard)
	})
}

package egressnode

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// settle is how long a change of addresses is left alone: it may be one of many, and
// somebody who takes an address away again and again must not keep the node busy.
const settle = 50 * time.Millisecond

// Run gives back what somebody takes away, and repeats announcements, until ctx ends.
func (h *Holder) Run(ctx context.Context) error {
	changes := make(chan netlink.AddrUpdate, 64)
	namespace := netns.NsHandle(h.node.Fd())
	err := netlink.AddrSubscribeWithOptions(changes, ctx.Done(), netlink.AddrSubscribeOptions{Namespace: &namespace})
	if err != nil {
		return fmt.Errorf("watch addresses: %w", err)
	}
	look, tell := stopped(), stopped()
	h.restore() // What went before somebody watched.
	pending := false
	for {
		select {
		case <-ctx.Done():
			for range changes { //nolint:revive // until the watch has ended
			}
			return nil
		case _, ok := <-changes:
			if !ok {
				if ctx.Err() != nil {
					return nil
				}
				return errors.New("watch addresses: the kernel has ended it")
			}
			select {
			case h.changed <- struct{}{}:
			default:
			}
			if !pending {
				pending = true
				look.Reset(settle)
			}
		case <-look.C:
			pending = false
			h.restore()
		case <-h.fresh:
			h.repeat(tell)
		case <-tell.C:
			h.repeat(tell)
		}
	}
}

// restore holds again what was to be held.
func (h *Holder) restore() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.known {
		return
	}
	repairs, err := h.compare()
	if err != nil {
		h.log.Warn("egress IPs not held, the next comparison repeats it", "error", err)
	}
	if len(repairs) > 0 {
		h.restored.Add(uint64(len(repairs)))
		h.log.Warn("egress IPs repaired", "repairs", repairs)
	}
}

// repeat announces what is due and sets the timer for the rest.
func (h *Holder) repeat(tell *time.Timer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if next := h.announceDue(time.Now()); !next.IsZero() {
		tell.Reset(time.Until(next))
	}
}

func stopped() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

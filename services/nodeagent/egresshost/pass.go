package egresshost

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/damask-sdn/damask/internal/egressmark"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	"github.com/damask-sdn/damask/services/nodeagent/egressnode"
	"github.com/damask-sdn/damask/services/nodeagent/masquerade"
)

// entry is an address that can be held, with its mark.
type entry struct {
	ip     netip.Addr
	mark   uint32
	hosted *egressv1.HostedAddress
}

// same says whether packets are led to both alike.
func (e entry) same(other entry) bool {
	a, b := e.hosted, other.hosted
	return e.ip == other.ip && e.mark == other.mark && a.GetNamespace() == b.GetNamespace() && a.GetSelection() == b.GetSelection() &&
		a.GetNetid() == b.GetNetid() && a.GetSlot() == b.GetSlot() && a.GetMatchPods() == b.GetMatchPods()
}

// parse answers what can be held, and for the rest why not.
func (h *Host) parse(hosting *egressv1.EgressHosting) (all []entry, problems []error) {
	for _, a := range hosting.GetAddresses() {
		ip, err := netip.ParseAddr(a.GetIp())
		if err != nil || !ip.Is4() {
			problems = append(problems, fmt.Errorf("egress IP %q is no IPv4 address", a.GetIp()))
			continue
		}
		mark, err := egressmark.Of(a.GetNetid(), a.GetSlot(), h.cfg.Reserved)
		if err != nil {
			problems = append(problems, fmt.Errorf("egress IP %s: %w", ip, err))
			continue
		}
		e := entry{ip, mark, a}
		if i := slices.IndexFunc(all, func(o entry) bool { return o.ip == ip || o.mark == mark }); i >= 0 {
			problems = append(problems, fmt.Errorf("egress IP %s has the mark or the address of %s", ip, all[i].ip))
			continue
		}
		all = append(all, e)
	}
	return all, problems
}

func translations(all []entry) []masquerade.EgressIP {
	list := make([]masquerade.EgressIP, 0, len(all))
	for _, e := range all {
		list = append(list, masquerade.EgressIP{Mark: e.mark, IP: e.ip})
	}
	return list
}

func addresses(all []entry) []netip.Addr {
	list := make([]netip.Addr, 0, len(all))
	for _, e := range all {
		list = append(list, e.ip)
	}
	return list
}

// pass brings everything to what is wanted. An audit compares also what should be in
// force already.
func (h *Host) pass(ctx context.Context, audit bool) (repairs []string, err error) {
	h.passing.Lock()
	defer h.passing.Unlock()
	hosting := h.current()
	if hosting == nil || !h.guarded() {
		return nil, nil
	}
	want, problems := h.parse(hosting)
	if err := h.begin(ctx, want); err != nil {
		return nil, err
	}
	began := time.Now()
	all := len(want)
	want = h.standing.allowed(hosting, want, h.led)
	withheld := len(want) < all
	if err := h.giveUp(ctx, want); err != nil {
		return nil, err
	}
	repairs, ready, failed, err := h.take(ctx, want, audit)
	if err != nil {
		return repairs, err
	}
	problems = append(problems, failed...)
	revision := hosting.GetRevision()
	if len(problems) > 0 || withheld {
		revision = h.revision // not all of it is in force
	}
	changed := !slices.EqualFunc(h.led, ready, entry.same)
	if changed || revision != h.revision {
		if err := h.lead(ctx, revision, ready); err != nil {
			return repairs, err
		}
	}
	if changed || len(h.closing) > 0 {
		h.metrics.changed(time.Since(began))
	}
	h.cfg.Confirm(hosting.GetRevision())
	h.metrics.set(len(hosting.GetAddresses()), len(ready))
	if audit {
		h.metrics.repaired(len(repairs))
	}
	if len(h.closing) > 0 {
		if err := h.forget(ctx, ready); err != nil {
			problems = append(problems, err)
		}
	}
	if err := errors.Join(problems...); err != nil {
		h.cfg.Flows.Failed(hosting.GetRevision(), err)
		return repairs, err
	}
	if withheld && h.standing.closed() {
		h.cfg.Flows.Failed(hosting.GetRevision(), errWithheld) // who says that it may wakes us
	}
	h.said = ""
	return repairs, nil
}

// guarded says whether the guard is there.
func (h *Host) guarded() bool {
	if h.cfg.Guarded == nil {
		return true
	}
	select {
	case <-h.cfg.Guarded:
		return true
	default:
		return false
	}
}

// begin tells Flows what the last agent left in force, as far as it is still wanted: the
// first comparison of the switch must not take out flows that are right, nor keep
// others. Until it was made nothing is changed, so ErrSwitchAway.
func (h *Host) begin(ctx context.Context, want []entry) error {
	if h.compared {
		return nil
	}
	select {
	case <-h.begun:
	default:
		open, err := h.cfg.Guard.Translated(ctx)
		if err != nil {
			return err
		}
		h.led = slices.DeleteFunc(slices.Clone(want), func(e entry) bool {
			return !slices.Contains(open, masquerade.EgressIP{Mark: e.mark, IP: e.ip})
		})
		err = h.lead(ctx, 0, h.led)
		if err != nil && !errors.Is(err, ErrSwitchAway) {
			return err
		}
		close(h.begun)
	}
	return h.lead(ctx, 0, h.led)
}

// lead has the switch lead packets to exactly these.
func (h *Host) lead(ctx context.Context, revision uint64, ready []entry) error {
	var hosted []*egressv1.HostedAddress
	for _, e := range ready {
		hosted = append(hosted, e.hosted)
	}
	// As told even when the switch does not answer: it may have it.
	h.led, h.compared = ready, false
	if err := h.cfg.Flows.Lead(ctx, revision, hosted); err != nil {
		return err
	}
	h.revision, h.compared = revision, true
	return nil
}

// giveUp does all of what goes, but for its translation and its connections.
func (h *Host) giveUp(ctx context.Context, want []entry) error {
	stay := slices.DeleteFunc(slices.Clone(h.led), func(e entry) bool { return !slices.ContainsFunc(want, e.same) })
	if len(stay) < len(h.led) {
		if err := h.lead(ctx, h.revision, stay); err != nil {
			return err
		}
	}
	if h.ruled && slices.Equal(h.rules, translations(want)) {
		return nil // nothing else is in force
	}
	closed, err := h.cfg.Guard.Narrow(ctx, translations(want))
	for _, e := range closed {
		h.closing = append(h.closing, e.IP)
	}
	if err != nil {
		return err
	}
	gone, err := h.cfg.Addresses.Release(ctx, addresses(want))
	h.closing = append(h.closing, gone...)
	return err
}

// take brings what is wanted into force but for the flows, and answers what is.
func (h *Host) take(ctx context.Context, want []entry, audit bool) (repairs []string, ready []entry, failed []error, err error) {
	rules := translations(want)
	if audit || !h.ruled || !slices.Equal(h.rules, rules) {
		h.ruled = false
		lines, err := h.cfg.Rules.SetEgress(ctx, rules)
		repairs = append(repairs, lines...)
		if err != nil {
			return repairs, nil, nil, err
		}
		h.rules, h.ruled = rules, true
	}
	lines, err := h.cfg.Addresses.Hold(ctx, addresses(want))
	repairs = append(repairs, lines...)
	ready = slices.Clone(want)
	for _, err := range parts(err) {
		one, ok := errors.AsType[*egressnode.AddressError](err)
		if !ok {
			return repairs, nil, nil, err
		}
		ready = slices.DeleteFunc(ready, func(e entry) bool { return e.ip == one.IP })
		failed = append(failed, err)
	}
	lines, err = h.open(ctx, ready, h.closing)
	return append(repairs, lines...), ready, failed, err
}

// forget forgets connections that are translated to what has gone, and then the
// addresses themselves. Until then the guard lets nothing leave from them.
func (h *Host) forget(ctx context.Context, ready []entry) error {
	slices.SortFunc(h.closing, netip.Addr.Compare)
	h.closing = slices.Compact(h.closing)
	n, err := h.cfg.Guard.Forget(ctx, func(_, translated netip.Addr) bool { return slices.Contains(h.closing, translated) })
	if err != nil {
		return err
	}
	h.cfg.Log.Info("egress IPs given up", "addresses", h.closing, "connections_forgotten", n)
	if _, err := h.open(ctx, ready, nil); err != nil {
		return err
	}
	h.closing = nil
	return nil
}

// parts takes a joined error apart.
func parts(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

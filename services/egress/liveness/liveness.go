// Package liveness decides from many nodes' reports whether a node answers.
//
// It promises: a node is down only when most of those who watch it, and report
// right now, say so, and there are two of them at least; a watcher that falls
// silent has no vote, so a lost observer is no dead node; and a node that went
// down is up again only after it answered most of those who watch it, be it one,
// without interruption for a while, which grows with each relapse. One that never was
// up need not wait so long, nor need any while most nodes are not up.
//
// It is pure: the caller brings the time. A Judge is for one goroutine.
package liveness

import (
	"maps"
	"slices"
	"time"
)

// Rules are the times of the decision.
type Rules struct {
	// Probe is the time from one probe to the next.
	Probe time.Duration
	// Patience is how long a node may leave probes unanswered before a watcher says so.
	Patience time.Duration
	// Fence is how long most of a node's watchers may leave the node's own probes
	// unanswered before it closes its egress IPs by itself. What is between it and
	// Patience is the node's time to do that.
	Fence time.Duration
	// Report is the time from one report of a watcher to the next.
	Report time.Duration
	// Fresh is how long a watcher's report is a vote.
	Fresh time.Duration
	// FirstHold is how long a node must answer that never was up, before it is: one
	// that joins is watched before its overlay is made, and that is no failure.
	FirstHold time.Duration
	// HoldDown is how long a node must answer before it is up again. Each
	// further failure doubles it, up to MaxHoldDown.
	HoldDown, MaxHoldDown time.Duration
	// Forgive is how long a node must have been up for its failures to be
	// forgotten.
	Forgive time.Duration
}

// DefaultRules answers rules by which a dead node is known to be dead after
// about 0.8 seconds: patience and, at most, one probe. A machine that is busy lets an
// answer wait for some hundred milliseconds.
func DefaultRules() Rules {
	return Rules{
		Probe: 150 * time.Millisecond, Patience: 700 * time.Millisecond, Fence: 400 * time.Millisecond, Report: 300 * time.Millisecond, Fresh: time.Second,
		FirstHold: time.Second, HoldDown: 10 * time.Second, MaxHoldDown: 5 * time.Minute, Forgive: 10 * time.Minute,
	}
}

// quorum is how many votes it takes to call a node down. One is enough to hear
// it answer.
const quorum = 2

// Health is what is decided about a node.
type Health int

// The states of a node, as NodeHealth in damask.egress.v1.
const (
	Unknown Health = iota
	Up
	Down
	Returning
)

// Verdict is a decision.
type Verdict struct {
	// Node it is about.
	Node string
	// Health is what is decided.
	Health Health
	// Since is when.
	Since time.Time
	// Failures is how often the node went down in its present series; 0 of one that
	// is down: it never was up.
	Failures uint32
}

// Usable says whether the node can host.
func (v Verdict) Usable() bool { return v.Health == Up || v.Health == Unknown }

// watcher is what one node last reported.
type watcher struct {
	at    time.Time
	votes map[string]bool // by target: it answers
}

// Judge holds the votes and the decisions.
type Judge struct {
	rules    Rules
	watchers map[string]*watcher
	voters   map[string]map[string]bool // by target
	verdicts map[string]Verdict
	pending  map[string]bool // targets to decide about
}

// NewJudge returns a judge who knows nothing.
func NewJudge(rules Rules) *Judge {
	return &Judge{rules: rules, watchers: map[string]*watcher{}, voters: map[string]map[string]bool{}, verdicts: map[string]Verdict{}, pending: map[string]bool{}}
}

// Inherit takes over an earlier judge's decision about a node of which nothing is
// known here.
func (j *Judge) Inherit(v Verdict) {
	if _, known := j.verdicts[v.Node]; !known && v.Health != Unknown {
		j.verdicts[v.Node] = v
	}
}

// Report takes over all that a watcher sees. What it says of itself is no vote.
func (j *Judge) Report(now time.Time, observer string, answers map[string]bool) {
	j.retract(observer)
	w := &watcher{at: now, votes: map[string]bool{}}
	for target, ok := range answers {
		if target == observer {
			continue
		}
		w.votes[target] = ok
		if j.voters[target] == nil {
			j.voters[target] = map[string]bool{}
		}
		j.voters[target][observer] = true
		j.pending[target] = true
	}
	j.watchers[observer] = w
}

// Leave takes back a watcher's votes.
func (j *Judge) Leave(observer string) {
	j.retract(observer)
	delete(j.watchers, observer)
}

func (j *Judge) retract(observer string) {
	w := j.watchers[observer]
	if w == nil {
		return
	}
	for target := range w.votes {
		if delete(j.voters[target], observer); len(j.voters[target]) == 0 {
			delete(j.voters, target)
		}
		j.pending[target] = true
	}
}

// Forget drops what was decided about a node that is gone.
func (j *Judge) Forget(node string) { delete(j.verdicts, node) }

// Nodes answers those about which anything is decided, in order.
func (j *Judge) Nodes() []string { return slices.Sorted(maps.Keys(j.verdicts)) }

// Verdict answers what is decided about a node.
func (j *Judge) Verdict(node string) Verdict {
	v := j.verdicts[node]
	v.Node = node
	return v
}

// Decide answers the decisions that changed, in order of node. It is called
// after reports, and otherwise about as often as reports come: nodes that are
// returning become up by time alone.
func (j *Judge) Decide(now time.Time) []Verdict {
	for node, v := range j.verdicts {
		if v.Health == Returning {
			j.pending[node] = true
		}
	}
	var changed []Verdict
	for _, target := range slices.Sorted(maps.Keys(j.pending)) {
		old := j.Verdict(target)
		next := j.decide(now, target, old)
		if next == old {
			continue
		}
		j.verdicts[target] = next
		changed = append(changed, next)
	}
	clear(j.pending)
	return changed
}

func (j *Judge) decide(now time.Time, target string, v Verdict) Verdict {
	up, down := 0, 0
	for observer := range j.voters[target] {
		w := j.watchers[observer]
		switch {
		case now.Sub(w.at) > j.rules.Fresh:
		case w.votes[target]:
			up++
		default:
			down++
		}
	}
	enough := up+down >= quorum
	dead := enough && down > up
	switch v.Health {
	case Unknown, Up:
		if dead {
			return Verdict{Node: target, Health: Down, Since: now, Failures: j.failures(now, v)}
		}
		if v.Health == Unknown && enough {
			return Verdict{Node: target, Health: Up, Since: now}
		}
	case Down:
		if up > down {
			v.Health, v.Since = Returning, now
		}
	case Returning:
		switch {
		case dead && v.Failures > 0:
			return Verdict{Node: target, Health: Down, Since: now, Failures: v.Failures + 1}
		case up <= down:
			v.Health, v.Since = Down, now // it was interrupted: that is no further failure
		case now.Sub(v.Since) >= j.hold(v.Failures):
			v.Health, v.Since = Up, now
		}
	}
	return v
}

// failures counts one that is usable and goes down now.
func (j *Judge) failures(now time.Time, v Verdict) uint32 {
	switch {
	case v.Health == Unknown:
		return v.Failures
	case now.Sub(v.Since) >= j.rules.Forgive:
		return 1
	}
	return v.Failures + 1
}

// hold is the rules' hold, but for when most nodes are not up: then there is nobody
// else to host, and it is not the nodes' fault, more likely the network's or that of an
// overloaded machine.
func (j *Judge) hold(failures uint32) time.Duration {
	up, all := 0, 0
	for _, v := range j.verdicts {
		if all++; v.Usable() {
			up++
		}
	}
	if 2*up < all {
		return j.rules.FirstHold
	}
	return j.rules.hold(failures)
}

// hold answers how long a node with so many failures must answer.
func (r Rules) hold(failures uint32) time.Duration {
	if failures == 0 {
		return r.FirstHold
	}
	hold := r.HoldDown
	for i := uint32(1); i < failures && hold < r.MaxHoldDown; i++ {
		hold *= 2
	}
	return min(hold, r.MaxHoldDown)
}

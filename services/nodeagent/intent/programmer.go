package intent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/services/nodeagent/flowsync"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// ErrNotStarted is answered while the switch has not been compared with a
// complete state yet: until then nothing is sent to it.
var ErrNotStarted = errors.New("the switch has not been compared with the wanted state yet")

// switcher is the part of flowsync that programming needs.
type switcher interface {
	Apply(ctx context.Context, changes ...flowsync.Change) error
	Reconcile(ctx context.Context, want map[string][]openflow.Flow) (flowsync.Diff, error)
	Dump(ctx context.Context) ([]flowsync.InstalledFlow, error)
}

// Programmer brings the switch to what State says, and remembers how far it is.
type Programmer struct {
	state    *State
	sw       switcher
	progress *progress
	log      hclog.Logger

	// whole is held shared while single fragments are sent, and alone while
	// everything is compared: a comparison must not race with a change.
	whole   sync.RWMutex
	started bool
	locks   *keyLocks
	// joint is held while what is unsettled is on its way, before locks: what is so
	// next must not overtake it.
	joint sync.Mutex

	mu     sync.Mutex
	shared map[string]*openflow.Flow // the first flow of each shared fragment that is in the switch
	queued Change
	wake   chan struct{}
}

// NewProgrammer returns a programmer that sends nothing before Reconcile was
// called once.
func NewProgrammer(state *State, sw switcher, log hclog.Logger) *Programmer {
	return &Programmer{
		state: state, sw: sw, log: log,
		progress: newProgress(),
		locks:    newKeyLocks(),
		shared:   map[string]*openflow.Flow{},
		wake:     make(chan struct{}, 1),
	}
}

// Queue hands over a change to be programmed by Run, together with all others
// that are waiting then.
func (p *Programmer) Queue(c Change) {
	if c.empty() {
		return
	}
	p.mu.Lock()
	p.queued.Owners = append(p.queued.Owners, c.Owners...)
	p.queued.Objects = append(p.queued.Objects, c.Objects...)
	p.queued.All = p.queued.All || c.All
	p.queued.Policies = p.queued.Policies || c.Policies
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Run programs queued changes until ctx ends. A change that the switch did not
// take is remembered as its objects' error; the next comparison repeats it.
func (p *Programmer) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake:
		}
		p.mu.Lock()
		change := p.queued
		p.queued = Change{}
		p.mu.Unlock()
		err := p.Program(ctx, change)
		if err != nil && !errors.Is(err, ErrNotStarted) && ctx.Err() == nil {
			p.log.Warn("change not programmed, the next comparison repeats it", "error", err)
		}
	}
}

// Program compiles what the change touches and answers when the switch has it.
func (p *Programmer) Program(ctx context.Context, change Change) error {
	if change.empty() {
		return nil
	}
	revisions := p.wanted(change.Objects)
	err := p.send(ctx, change)
	if errors.Is(err, ErrNotStarted) {
		return err
	}
	p.progress.record(revisions, err)
	return err
}

func (p *Programmer) send(ctx context.Context, change Change) error {
	if change.All {
		_, err := p.everything(ctx)
		return err
	}
	p.whole.RLock()
	defer p.whole.RUnlock()
	if !p.started {
		return ErrNotStarted
	}
	owners := p.needed(change.Owners)
	if change.Policies || p.state.joint(owners) {
		return p.sendTogether(ctx, owners)
	}
	if len(owners) == 0 {
		return nil
	}
	unlock := p.locks.lock(owners)
	changes, alone := p.compile(owners, p.state.single)
	if !alone {
		unlock()
		return p.sendTogether(ctx, owners)
	}
	defer unlock()
	return p.apply(ctx, changes)
}

// sendTogether sends these fragments and all that is unsettled in one transaction.
func (p *Programmer) sendTogether(ctx context.Context, owners []string) error {
	p.joint.Lock()
	defer p.joint.Unlock()
	var took taken
	for {
		owners = union(owners, p.state.companions())
		if len(owners) == 0 {
			return nil
		}
		unlock := p.locks.lock(owners)
		changes, all := p.compile(owners, func(owners []string) (flows map[string][]openflow.Flow, all bool) {
			flows, took, all = p.state.together(owners)
			return flows, all
		})
		if !all {
			unlock()
			continue
		}
		defer unlock()
		err := p.apply(ctx, changes)
		if err != nil {
			p.state.giveBack(took)
		}
		return err
	}
}

func (p *Programmer) apply(ctx context.Context, changes []flowsync.Change) error {
	if err := p.sw.Apply(ctx, changes...); err != nil {
		return fmt.Errorf("program %d fragments: %w", len(changes), err)
	}
	p.confirm(changes)
	return nil
}

// needed leaves out fragments shared by many pods that are in the switch
// already and still wanted as they are, so that pods of one tenant do not queue behind one
// another for flows that none of them changes.
func (p *Programmer) needed(owners []string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var needed []string
	for _, owner := range union(owners) {
		if has := p.shared[owner]; has != nil {
			if flows := p.state.compile(owner); len(flows) > 0 && (isTenant(owner) || &flows[0] == has) {
				continue
			}
		}
		needed = append(needed, owner)
	}
	return needed
}

// compile compiles fragments that are about to be sent, all of one moment; false: others
// have to go with them. A shared fragment that goes is forgotten before it is sent: whoever
// needs it from now on sees that it is not there and sends it again, after us.
func (p *Programmer) compile(owners []string, by func([]string) (map[string][]openflow.Flow, bool)) (changes []flowsync.Change, all bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	flows, all := by(owners)
	if !all {
		return nil, false
	}
	for _, owner := range owners {
		if len(flows[owner]) == 0 || !isTenant(owner) {
			delete(p.shared, owner)
		}
		changes = append(changes, flowsync.Change{Owner: owner, Flows: flows[owner]})
	}
	return changes, true
}

// confirm remembers the shared fragments that the switch has now.
func (p *Programmer) confirm(changes []flowsync.Change) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range changes {
		if isShared(c.Owner) && len(c.Flows) > 0 {
			p.shared[c.Owner] = &c.Flows[0]
		}
	}
}

// isShared says whether pods need a fragment that is not their own: their tenant's, which
// is always the same, or the rules of their firewall, which are while they are the
// same slice.
func isShared(owner string) bool {
	return isTenant(owner) || strings.HasPrefix(owner, firewallOwnerPrefix)
}

func isTenant(owner string) bool { return strings.HasPrefix(owner, "vnid ") }

// Reconcile compares the whole switch with the whole state and repairs the
// difference. The caller has seen that the state is complete (State.Missing).
// It is the first thing sent to a switch, and repeated in audits.
func (p *Programmer) Reconcile(ctx context.Context) (flowsync.Diff, error) {
	p.whole.Lock()
	p.started = true
	p.whole.Unlock()
	return p.everything(ctx)
}

func (p *Programmer) everything(ctx context.Context) (flowsync.Diff, error) {
	p.whole.Lock()
	defer p.whole.Unlock()
	if !p.started {
		return flowsync.Diff{}, ErrNotStarted
	}
	revisions := p.state.attainables()
	for _, pod := range p.state.Pods() {
		revisions[pod.object()] = 0
	}
	// What is compared with everything is no news to the next change.
	want, took := p.state.allTogether()
	diff, err := p.sw.Reconcile(ctx, want)
	p.progress.record(revisions, err)
	if err != nil {
		p.state.giveBack(took)
		return diff, fmt.Errorf("compare the switch with the wanted state: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.shared)
	for owner, flows := range want {
		if isShared(owner) && len(flows) > 0 {
			p.shared[owner] = &flows[0]
		}
	}
	return diff, nil
}

// wanted answers the revisions that will be in force when what is compiled
// from now on is in the switch.
func (p *Programmer) wanted(objects []Object) map[Object]uint64 {
	revisions := make(map[Object]uint64, len(objects))
	for _, o := range objects {
		if r, ok := p.state.attainable(o); ok || o.Kind == KindPod {
			revisions[o] = r
		}
	}
	return revisions
}

// Refuse records that an object could not be taken into the state.
func (p *Programmer) Refuse(o Object, err error) {
	p.progress.refuse(o, err)
}

// Forget drops what is remembered of an object that is gone.
func (p *Programmer) Forget(o Object) { p.progress.forget(o) }

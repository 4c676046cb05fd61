package svcsync

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/damask-sdn/damask/internal/serviceview"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// pending is a service whose last change is not in force yet, with the objects that
// are when it is.
type pending struct {
	since   time.Time
	objects map[object]progress
}

// load takes all services and endpoints over. Flows hears of them at once, and not
// when the engine is done: after a restart the switch has them already.
func (s *Syncer) load(ctx context.Context) {
	now, newest := time.Now(), map[string]uint64{}
	s.marks.take() // what they are about is in the snapshots
	for _, service := range s.services.Snapshot() {
		name := s.ledger.setService(service)
		s.want(name, object{KindService, pathOf(name)}, service.GetRevision(), now)
	}
	for path, slice := range s.slices.Snapshot() {
		for _, name := range s.ledger.book.SetSlice(slice) {
			s.want(name, object{KindEndpointSlice, path}, slice.GetRevision(), now)
		}
	}
	s.settle(slices.Collect(maps.Keys(s.pending)))
	for _, p := range s.pending {
		for o, aim := range p.objects {
			newest[o.kind] = max(newest[o.kind], aim.revision)
		}
	}
	for kind, revision := range newest {
		s.statuses.saw(kind, revision)
	}
	s.open(ctx, failures{}) // what does not work is tried again in each pass
	s.begin()
}

// want notes that an object is to come into force with a service.
func (s *Syncer) want(name serviceview.Name, o object, revision uint64, since time.Time) {
	s.statuses.want(o, revision)
	s.touch(name, since).objects[o] = progress{revision: revision}
}

// lose notes that an object is gone when a service is as it should be.
func (s *Syncer) lose(name serviceview.Name, o object, since time.Time) {
	s.touch(name, since).objects[o] = progress{gone: true}
}

func (s *Syncer) touch(name serviceview.Name, since time.Time) *pending {
	p := s.pending[name]
	if p == nil {
		p = &pending{since: since, objects: map[object]progress{}}
		s.pending[name] = p
	}
	return p
}

// absorb takes over what has changed.
func (s *Syncer) absorb() {
	services, changed := s.marks.take()
	dirty := map[serviceview.Name]bool{}
	if s.moved.Swap(false) {
		for _, name := range s.ledger.local() {
			dirty[name] = true
		}
	}
	if zone := s.zone.Swap(nil); zone != nil && *zone != s.ledger.node.Zone {
		s.ledger.node.Zone = *zone
		for name := range s.ledger.headers {
			dirty[name] = true
		}
	}
	if len(services)+len(changed)+len(dirty) == 0 {
		return
	}
	for path, m := range services {
		name, o := nameOf(path), object{KindService, path}
		if service, exists := s.services.Get(path); exists {
			s.ledger.setService(service)
			s.want(name, o, service.GetRevision(), m.since)
		} else {
			s.ledger.deleteService(name)
			delete(s.reproached, path)
			s.lose(name, o, m.since)
		}
		dirty[name] = true
	}
	for path, m := range changed {
		for _, name := range s.absorbSlice(path, m.since) {
			dirty[name] = true
		}
	}
	s.settle(slices.Collect(maps.Keys(dirty)))
	// Only now: who waits for one of these must not hear that a later one has been taken
	// over before his has.
	for _, m := range services {
		s.statuses.saw(KindService, m.revision)
	}
	for _, m := range changed {
		s.statuses.saw(KindEndpointSlice, m.revision)
	}
}

// absorbSlice takes a slice over and answers the services that it concerns.
func (s *Syncer) absorbSlice(path string, since time.Time) []serviceview.Name {
	o := object{KindEndpointSlice, path}
	if slice, exists := s.slices.Get(path); exists {
		concerned := s.ledger.book.SetSlice(slice)
		for _, name := range concerned {
			s.want(name, o, slice.GetRevision(), since)
		}
		return concerned
	}
	slice := nameOf(path)
	name, known := s.ledger.book.DeleteSlice(slice.Namespace, slice.Service)
	if !known {
		return nil
	}
	s.lose(name, o, since)
	return []serviceview.Name{name}
}

// settle works out what services have now, and remembers those that are concerned.
func (s *Syncer) settle(names []serviceview.Name) {
	now := time.Now()
	for _, name := range s.ledger.settle(names) {
		p := s.touch(name, now)
		if head, there := s.ledger.headers[name]; there {
			p.objects[object{KindService, pathOf(name)}] = progress{revision: head.revision}
		}
	}
}

// pass brings everything to what it should be, as far as something is not.
func (s *Syncer) pass(ctx context.Context) error {
	_, err := s.passed(ctx)
	return err
}

func (s *Syncer) passed(ctx context.Context) (repaired proxy.Changes, err error) {
	s.absorb()
	view, known := s.cfg.View()
	if !known {
		return repaired, nil // whoever learns of it wakes us
	}
	if err := s.engine.use(view); err != nil {
		return repaired, s.refuse(err)
	}
	doubted := s.doubted.Swap(false)
	compare := doubted || !s.engine.synced
	if len(s.pending) == 0 && !compare && !s.unserved {
		return repaired, nil
	}
	failed := failures{}
	s.closeGone(ctx, failed)
	s.hold(ctx, compare, failed)
	repaired, err = s.engine.program(ctx, s.ledger, doubted)
	if s.cfg.Health != nil {
		s.cfg.Health.Healthy(err == nil)
	}
	if err != nil {
		return repaired, s.refuse(err)
	}
	s.release(ctx, failed)
	s.open(ctx, failed)
	s.serveHealth(failed)
	return repaired, s.confirm(failed)
}

// failures are the services that are not as they should be after a pass, and why.
type failures map[serviceview.Name]error

func (f failures) add(name serviceview.Name, err error) { f[name] = errors.Join(f[name], err) }

// refuse notes an error that concerns all that is pending.
func (s *Syncer) refuse(err error) error {
	all := map[object]progress{}
	for _, p := range s.pending {
		p.fail(err, all)
	}
	s.statuses.settle(all)
	s.complain(err)
	return err
}

// fail adds all objects of a service, with an error.
func (p *pending) fail(err error, to map[object]progress) {
	for o, aim := range p.objects {
		aim.err = err
		to[o] = aim
	}
}

// confirm notes what is in force now. It answers what is not.
func (s *Syncer) confirm(failed failures) error {
	now, all := time.Now(), map[object]progress{}
	for name, p := range s.pending {
		if err := failed[name]; err != nil {
			p.fail(err, all)
			continue
		}
		maps.Copy(all, p.objects)
		o := object{KindService, pathOf(name)}
		if aim, there := all[o]; there && !aim.gone {
			aim.err = s.ledger.plans[name].err
			all[o] = aim
			s.reproach(o.name, aim.err)
		}
		s.metrics.lag.Observe(now.Sub(p.since).Seconds())
		delete(s.pending, name)
	}
	s.statuses.settle(all)
	s.metrics.size(len(s.ledger.headers), len(s.ledger.state), s.ledger.backends, len(s.pending))
	if len(failed) == 0 {
		s.said = ""
		return nil
	}
	first := slices.MinFunc(slices.Collect(maps.Keys(failed)), compareNames)
	err := fmt.Errorf("%d services are not in force, %s among them: %w", len(failed), pathOf(first), failed[first])
	if !errors.Is(err, ErrSwitchAway) {
		s.complain(err)
	}
	return err
}

// complain logs why a pass did not work, once for each reason.
func (s *Syncer) complain(err error) {
	if text := err.Error(); text != s.said {
		s.said = text
		s.cfg.Log.Warn("services not programmed, trying again", "error", err)
	}
}

// reproach logs what a service has less than it wants, when that changes.
func (s *Syncer) reproach(service string, err error) {
	if err == nil {
		delete(s.reproached, service)
		return
	}
	if text := err.Error(); text != s.reproached[service] {
		s.reproached[service] = text
		s.cfg.Log.Error("service refused in part", "service", service, "error", err)
	}
}

// pathOf is how statuses and followers name a service.
func pathOf(name serviceview.Name) string { return name.Namespace + "/" + name.Service }

// nameOf reads the name of a service or a slice.
func nameOf(path string) serviceview.Name {
	namespace, name, _ := strings.Cut(path, "/")
	return serviceview.Name{Namespace: namespace, Service: name}
}

package catalog

import (
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/serviceview"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

const (
	// needPause is how long after a report further ones are not written, so that an
	// idled service which every node asks for costs a write now and then, and not one
	// for each node.
	needPause = 5 * time.Second
	// maxNeedNodes is how many nodes a NeedPods names.
	maxNeedNodes = 32
)

// needTable is what is stored of services' need for pods.
func needTable() bucket.Table[*servicelbv1.NeedPods] {
	return bucket.NewTable[*servicelbv1.NeedPods]("needpods")
}

// ReportNeed stores that packets for an idled service wait on a node, and answers
// what is stored. It fails with NotFoundError and NotIdledError.
func (s *Store) ReportNeed(ctx context.Context, name Name, node string, now time.Time) (*servicelbv1.NeedPods, error) {
	if err := s.CatchUp(ctx); err != nil {
		return nil, err
	}
	var decided *servicelbv1.NeedPods
	sequence, err := s.commit(ctx, func(tx *bucket.Tx) error {
		idled, found, err := s.idled(tx, name)
		switch {
		case err != nil:
			return err
		case !found:
			return &NotFoundError{Name: name}
		case !idled:
			return &NotIdledError{Name: name}
		}
		stored, found, err := needTable().Get(tx, name.Namespace, name.Name)
		if err != nil {
			return err
		}
		if !found {
			stored = &servicelbv1.NeedPods{Namespace: name.Namespace, Name: name.Name, FirstTime: timestamppb.New(now)}
		}
		last := stored.GetLastTime().AsTime()
		named := slices.Contains(stored.GetNodes(), node) || len(stored.GetNodes()) >= maxNeedNodes
		if decided = stored; found && named && now.Sub(last) < needPause {
			return nil
		}
		decided = proto.CloneOf(stored)
		decided.Revision = 0
		if now.After(last) { // another replica's clock may be ahead
			decided.LastTime = timestamppb.New(now)
		}
		decided.Count++
		if !named {
			decided.Nodes = append(decided.Nodes, node)
		}
		needTable().Put(tx, decided, name.Namespace, name.Name)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if decided.GetRevision() == 0 {
		decided.Revision = s.bucket.RevisionSince(needTable().Key(name.Namespace, name.Name), sequence)
	}
	return decided, nil
}

// SettleNeed removes what is stored of a service's need for pods if the service is
// not idled any more, and says whether it did. A report and the endpoints that end
// the need may be committed at the same time, so that neither sees the other: so
// whoever learns of either looks once more, by this.
func (s *Store) SettleNeed(ctx context.Context, name Name) (settled bool, err error) {
	_, err = s.commit(ctx, func(tx *bucket.Tx) error {
		settled = false
		_, found, err := needTable().Get(tx, name.Namespace, name.Name)
		if err != nil || !found {
			return err
		}
		idled, _, err := s.idled(tx, name)
		if err != nil || idled {
			return err
		}
		settled = true
		needTable().Delete(tx, name.Namespace, name.Name)
		return nil
	})
	return settled, err
}

// idled says whether a service is there, and is idled.
func (s *Store) idled(tx *bucket.Tx, name Name) (idled, found bool, err error) {
	service, found, err := serviceTable().Get(tx, name.Namespace, name.Name)
	if err != nil || !found {
		return false, false, err
	}
	list, err := slicesOf(tx, s.index, name)
	if err != nil {
		return false, true, err
	}
	view, err := serviceview.Compute(service, list, serviceview.Node{})
	return view.Idled, true, err
}

// Needs answers what is stored of services' need for pods.
func (s *Store) Needs(q Query) (Page[*servicelbv1.NeedPods], error) {
	return list(s.bucket.Snapshot(), needTable(), "needpods", q)
}

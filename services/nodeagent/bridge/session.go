package bridge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	"github.com/ovn-org/libovsdb/cache"
	"github.com/ovn-org/libovsdb/client"
	"github.com/ovn-org/libovsdb/model"
	"github.com/ovn-org/libovsdb/ovsdb"
)

const (
	dialTimeout = 10 * time.Second
	// probeEvery and probeTimeout find a database that is connected but dead. They
	// also bound how late a disconnect is seen should its notification be missed,
	// since libovsdb sends that without waiting for a reader.
	probeEvery   = 5 * time.Second
	probeTimeout = 5 * time.Second
)

// session is one connection with its copy of the rows. It is thrown away whole when
// the connection is lost, so rows of two connections are never mixed.
type session struct {
	client client.Client
	rows   *cache.TableCache
	lost   chan struct{} // closed when libovsdb has cleaned up after a disconnect
	failed chan error    // a call met a connection that does not work
}

// dial connects, and returns when all rows are known. touch is called after every
// change of a row.
func dial(ctx context.Context, endpoint string, touch func()) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	dbModel, err := databaseModel()
	if err != nil {
		return nil, fmt.Errorf("describe the database: %w", err)
	}
	discard := logr.Discard()
	c, err := client.NewOVSDBClient(dbModel, client.WithEndpoint(endpoint), client.WithLogger(&discard))
	if err != nil {
		return nil, err
	}
	// libovsdb offers the notification once and only to a reader that waits already.
	s := &session{client: c, lost: make(chan struct{}), failed: make(chan error, 1)}
	give := make(chan struct{})
	go s.listen(give)
	if err := c.Connect(ctx); err != nil {
		close(give)
		return nil, err
	}
	s.rows = c.Cache()
	if s.rows == nil { // lost already
		return nil, errLost
	}
	s.rows.AddEventHandler(&cache.EventHandlerFuncs{
		AddFunc:    func(string, model.Model) { touch() },
		UpdateFunc: func(string, model.Model, model.Model) { touch() },
		DeleteFunc: func(string, model.Model) { touch() },
	})
	if err := s.monitor(ctx); err != nil {
		s.close()
		return nil, fmt.Errorf("monitor: %w", err)
	}
	return s, nil
}

// listen closes lost when the connection is gone.
func (s *session) listen(give <-chan struct{}) {
	select {
	case <-s.client.DisconnectNotify():
		close(s.lost)
	case <-give:
	}
}

// monitor asks for the columns of the row types, by name: with columns that a row
// type leaves out, libovsdb stops at the first update that has one.
func (s *session) monitor(ctx context.Context) error {
	var (
		root  rootRow
		br    bridgeRow
		port  portRow
		iface interfaceRow
	)
	m := s.client.NewMonitor(
		client.WithTable(&root, &root.Bridges, &root.NextConfig, &root.CurConfig, &root.OtherConfig, &root.DatapathTypes),
		client.WithTable(&br, &br.Name, &br.DatapathType, &br.FailMode, &br.Protocols, &br.OtherConfig, &br.Ports),
		client.WithTable(&port, &port.Name, &port.Interfaces),
		client.WithTable(&iface, &iface.Name, &iface.Type, &iface.Options, &iface.ExternalIDs, &iface.OFPort,
			&iface.OFPortRequest, &iface.Error, &iface.MAC, &iface.MACInUse, &iface.MTURequest),
	)
	// Not monitor_cond_since, libovsdb's default: there an update that cannot be
	// applied is dropped in silence, here it ends the connection and so is repaired.
	m.Method = ovsdb.ConditionalMonitorRPC
	_, err := s.client.Monitor(ctx, m)
	return err
}

// serve returns when the connection is lost, or closes it at the end of ctx.
func (s *session) serve(ctx context.Context) error {
	defer s.close()
	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.lost:
			return errLost
		case err := <-s.failed:
			return err
		case <-ticker.C:
			probe, cancel := context.WithTimeout(ctx, probeTimeout)
			err := s.client.Echo(probe)
			cancel()
			if err != nil {
				return fmt.Errorf("probe: %w", err)
			}
		}
	}
}

// close ends the connection and waits for libovsdb's goroutines.
func (s *session) close() {
	s.client.Close()
	timer := time.NewTimer(probeTimeout)
	defer timer.Stop()
	select {
	case <-s.lost:
	case <-timer.C:
	}
}

// transact runs operations as one transaction: all or nothing. An error of the call
// itself, and not of an operation, means that the connection is of no use any more;
// what became of the transaction is unknown then.
func (s *session) transact(ctx context.Context, operations ...ovsdb.Operation) ([]ovsdb.OperationResult, error) {
	results, err := s.client.Transact(ctx, operations...)
	if err != nil {
		return nil, fmt.Errorf("ovsdb transaction: %w", s.fail(ctx, err))
	}
	if each, err := ovsdb.CheckOperationResults(results, operations); err != nil {
		// Without the causes err only counts them.
		causes := []error{err}
		for _, cause := range each {
			causes = append(causes, cause)
		}
		return nil, fmt.Errorf("ovsdb transaction: %w", errors.Join(causes...))
	}
	return results, nil
}

// fail makes an error of a call errLost, and serve end the connection, unless the
// caller's context is to blame.
func (s *session) fail(ctx context.Context, err error) error {
	if ctxErr := ctx.Err(); ctxErr != nil {
		return ctxErr
	}
	select {
	case s.failed <- err:
	default: // known already
	}
	return fmt.Errorf("%w: %w", errLost, err)
}

// refresh returns when the rows have every change that was committed before the call.
// The server sends them before it answers, and the client reads in order.
func (s *session) refresh(ctx context.Context) error {
	if err := s.client.Echo(ctx); err != nil {
		return fmt.Errorf("ask ovsdb for news: %w", s.fail(ctx, err))
	}
	return nil
}

// configure runs operations and answers the number that Open_vSwitch.cur_cfg reaches
// when ovs-vswitchd has acted on them. That is how a result is told from what a
// column happened to hold before.
func (s *session) configure(ctx context.Context, operations []ovsdb.Operation) (int, error) {
	root, err := s.root()
	if err != nil {
		return 0, err
	}
	self := []ovsdb.Condition{ovsdb.NewCondition("_uuid", ovsdb.ConditionEqual, ovsdb.UUID{GoUUID: root.UUID})}
	operations = append(operations,
		ovsdb.Operation{
			Op: ovsdb.OperationMutate, Table: tableRoot, Where: self,
			Mutations: []ovsdb.Mutation{*ovsdb.NewMutation("next_cfg", ovsdb.MutateOperationAdd, 1)},
		},
		ovsdb.Operation{Op: ovsdb.OperationSelect, Table: tableRoot, Where: self, Columns: []string{"next_cfg"}},
	)
	results, err := s.transact(ctx, operations...)
	if err != nil {
		return 0, err
	}
	last := results[len(operations)-1]
	if len(last.Rows) != 1 {
		return 0, errors.New("ovsdb transaction: the Open_vSwitch row vanished")
	}
	number, ok := last.Rows[0]["next_cfg"].(float64)
	if !ok {
		return 0, fmt.Errorf("ovsdb transaction: next_cfg is a %T, not a number", last.Rows[0]["next_cfg"])
	}
	return int(number), nil
}

// nudges is how often ovs-vswitchd is asked to look again at numbers. In one pass it
// frees the numbers of ports that go only after it has given numbers to those that
// come, so a number that moves from one port to another needs a second pass, and two
// ports that swap theirs a third.
const nudges = 3

// settled waits until ovs-vswitchd has acted on the change that got number, and asks
// it to look again while numbered says that a port has not the number it asks for.
func (b *Bridge) settled(ctx context.Context, s *session, number int, numbered func() bool) error {
	for try := 0; ; try++ {
		err := b.await(ctx, s, "ovs-vswitchd has acted on the change", func() bool {
			root, err := s.root()
			return err == nil && root.CurConfig >= number
		})
		if err != nil || numbered() || try == nudges {
			return err
		}
		if number, err = s.configure(ctx, nil); err != nil {
			return err
		}
	}
}

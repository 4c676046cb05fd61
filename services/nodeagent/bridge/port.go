package bridge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/ovn-org/libovsdb/ovsdb"
)

// ErrOFPortTaken is a requested OpenFlow port number that another port has.
var ErrOFPortTaken = errors.New("OpenFlow port is taken")

// errUnusable is a port that the switch has and cannot use.
var errUnusable = errors.New("the switch cannot use the port")

// cleanUpTimeout bounds the removal of a port that could not be added, which must
// happen even if the caller has given up meanwhile.
const cleanUpTimeout = 5 * time.Second

// maxNameLength is IFNAMSIZ without the final zero.
const maxNameLength = 15

// Port is one pod's port of the bridge.
type Port struct {
	// Name is the device's name, 1 to 15 characters. Required.
	Name string
	// OFPort is the OpenFlow port number. In AddPort it is a request, 3 to 65279, or
	// 0 for any. In Ports it is the number in use, 0 when the switch has none for it.
	OFPort uint32
	// ExternalIDs are kept with the port in the database (Interface.external_ids).
	ExternalIDs map[string]string
	// Error is what the switch says against the port; AddPort does not read it.
	Error string
}

func (p Port) validate() error {
	var problems []string
	if p.Name == "" || len(p.Name) > maxNameLength || strings.ContainsAny(p.Name, "/ \t\n") {
		problems = append(problems, fmt.Sprintf("name %q is no device name", p.Name))
	}
	if p.OFPort != 0 && (p.OFPort < FirstPodOFPort || p.OFPort > LastPodOFPort) {
		problems = append(problems, fmt.Sprintf("OpenFlow port %d is not %d to %d", p.OFPort, FirstPodOFPort, LastPodOFPort))
	}
	if len(problems) == 0 {
		return nil
	}
	return errors.New("port: " + strings.Join(problems, "; "))
}

func portOf(row *interfaceRow) Port {
	p := Port{Name: row.Name, ExternalIDs: maps.Clone(row.ExternalIDs), Error: deref(row.Error)}
	if n := deref(row.OFPort); n > 0 {
		p.OFPort = uint32(n)
	}
	return p
}

// AddPort puts a device into the bridge and returns its OpenFlow port number when the
// switch has confirmed it. A second call with the same port changes nothing; with
// other external ids or another number it changes those. A number that was not asked
// for is chosen, and written down, so that the port keeps it.
//
// Errors: every problem of p; ErrOFPortTaken; what ovs-vswitchd says, for instance
// that there is no such device. After an error a port that this call made is gone
// again, and so is one that the switch cannot use; a port that worked before stays.
func (b *Bridge) AddPort(ctx context.Context, p Port) (ofport uint32, err error) {
	if err := p.validate(); err != nil {
		return 0, err
	}
	defer b.names.lock(p.Name)()
	made := false // by this call, perhaps on a connection that was lost since
	err = b.retried(ctx, func(s *session) error {
		ofport, err = b.addOn(ctx, s, p, &made)
		return err
	})
	if err != nil {
		if made || errors.Is(err, errUnusable) {
			err = errors.Join(err, b.cleanUp(ctx, p.Name))
		}
		return 0, fmt.Errorf("add port %s to %s: %w", p.Name, b.name, err)
	}
	return ofport, nil
}

// addOn does AddPort on one connection. made is set when it may have made the port.
func (b *Bridge) addOn(ctx context.Context, s *session, p Port, made *bool) (uint32, error) {
	row := s.bridge(b.name)
	if row == nil {
		return 0, fmt.Errorf("there is no bridge %s", b.name)
	}
	existing := s.iface(p.Name)
	if existing != nil {
		if port := s.port(p.Name); port != nil {
			if owner := s.owner(port); owner != b.name {
				return 0, fmt.Errorf("the port is in bridge %q", owner)
			}
		}
		if inForce(existing, p) {
			return uint32(*existing.OFPort), nil
		}
	}
	wish, done, err := b.wish(s, row, existing, p)
	if err != nil {
		return 0, err
	}
	defer done()
	*made = *made || existing == nil
	number, err := s.configure(ctx, addOperations(row, existing, p, wish))
	if err != nil {
		return 0, err
	}
	err = b.settled(ctx, s, number, func() bool {
		row := s.iface(p.Name)
		return row == nil || deref(row.OFPort) <= 0 || *row.OFPort == int(wish)
	})
	if err != nil {
		return 0, err
	}
	return outcome(s.iface(p.Name), wish)
}

// inForce says whether nothing is left to do for p.
func inForce(row *interfaceRow, p Port) bool {
	number := deref(row.OFPort)
	return number > 0 && deref(row.Error) == "" &&
		number == deref(row.OFPortRequest) &&
		(p.OFPort == 0 || number == int(p.OFPort)) &&
		maps.Equal(row.ExternalIDs, p.ExternalIDs)
}

// wish decides which number to ask for. done ends the reservation.
func (b *Bridge) wish(s *session, bridge *bridgeRow, existing *interfaceRow, p Port) (number uint32, done func(), err error) {
	used := map[uint32]string{}
	for _, row := range s.interfacesOf(bridge) {
		if row.Name == p.Name {
			continue
		}
		for _, n := range []*int{row.OFPort, row.OFPortRequest} {
			if deref(n) > 0 {
				used[uint32(*n)] = row.Name
			}
		}
	}
	number = p.OFPort
	if number == 0 && existing != nil {
		if has := deref(existing.OFPort); has >= FirstPodOFPort && has <= LastPodOFPort {
			number = uint32(has)
		}
	}
	if number == 0 {
		return b.numbers.reserve(p.Name, used)
	}
	done, err = b.numbers.claim(number, p.Name, used)
	return number, done, err
}

// addOperations make the port as p says, or change what differs.
func addOperations(bridge *bridgeRow, existing *interfaceRow, p Port, number uint32) []ovsdb.Operation {
	row := ovsdb.Row{"external_ids": stringMap(p.ExternalIDs), "ofport_request": int(number)}
	if existing != nil {
		return []ovsdb.Operation{update(tableInterface, existing.UUID, row)}
	}
	row["name"] = p.Name
	return append(insertPort("port", p.Name, row),
		mutate(tableBridge, bridge.UUID, "ports", ovsdb.MutateOperationInsert,
			ovsdb.OvsSet{GoSet: []any{ovsdb.UUID{GoUUID: "port"}}}))
}

// outcome answers what the switch made of a port.
func outcome(row *interfaceRow, wish uint32) (uint32, error) {
	switch {
	case row == nil:
		return 0, errors.New("somebody else removed the port")
	case deref(row.Error) != "":
		return 0, fmt.Errorf("%w: %s", errUnusable, *row.Error)
	case deref(row.OFPort) <= 0:
		return 0, fmt.Errorf("%w: it gave no OpenFlow port (the log of ovs-vswitchd says why)", errUnusable)
	case *row.OFPort != int(wish):
		return 0, fmt.Errorf("%w: the switch gave %d instead of %d", ErrOFPortTaken, *row.OFPort, wish)
	}
	return uint32(*row.OFPort), nil
}

// cleanUp removes a port that could not be added.
func (b *Bridge) cleanUp(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	return b.remove(ctx, name)
}

// DeletePort takes a device out of the bridge. A port that is not there is a success.
// It does not wait for ovs-vswitchd, so it works while the switch is down.
func (b *Bridge) DeletePort(ctx context.Context, name string) error {
	defer b.names.lock(name)()
	if err := b.remove(ctx, name); err != nil {
		return fmt.Errorf("delete port %s from %s: %w", name, b.name, err)
	}
	return nil
}

// remove does DeletePort. The caller holds the name's lock.
func (b *Bridge) remove(ctx context.Context, name string) error {
	return b.retried(ctx, func(s *session) error {
		bridge := s.bridge(b.name)
		if bridge == nil {
			return nil
		}
		id, err := s.portUUID(ctx, name)
		if err != nil || id == "" {
			return err
		}
		if owner := s.owner(&portRow{UUID: id}); owner != b.name && owner != "" {
			return fmt.Errorf("the port is in bridge %s", owner)
		}
		if _, err := s.transact(ctx, removePort(bridge.UUID, id)); err != nil {
			return err
		}
		// So that Ports, asked next, no longer knows it.
		return b.await(ctx, s, "the port's row is gone", func() bool {
			port := s.port(name)
			return port == nil || port.UUID != id
		})
	})
}

// portUUID answers the id of a port row, "" if there is none. It asks the server when
// the copy of the rows has none: an AddPort that was given up may be on its way.
func (s *session) portUUID(ctx context.Context, name string) (string, error) {
	if port := s.port(name); port != nil {
		return port.UUID, nil
	}
	results, err := s.transact(ctx, ovsdb.Operation{
		Op: ovsdb.OperationSelect, Table: tablePort, Columns: []string{"_uuid"},
		Where: []ovsdb.Condition{ovsdb.NewCondition("name", ovsdb.ConditionEqual, name)},
	})
	if err != nil || len(results) == 0 || len(results[0].Rows) == 0 {
		return "", err
	}
	id, ok := results[0].Rows[0]["_uuid"].(ovsdb.UUID)
	if !ok {
		return "", fmt.Errorf("ovsdb answered a port id of type %T", results[0].Rows[0]["_uuid"])
	}
	return id.GoUUID, nil
}

package bridge

import (
	"errors"
	"maps"
	"slices"

	"github.com/ovn-org/libovsdb/model"
)

// Tables of the Open_vSwitch database that this package reads and writes.
const (
	databaseName   = "Open_vSwitch"
	tableRoot      = "Open_vSwitch"
	tableBridge    = "Bridge"
	tablePort      = "Port"
	tableInterface = "Interface"
)

// errNoRoot is a database that nobody has initialised.
var errNoRoot = errors.New("the Open_vSwitch table is empty: the database was not initialised (ovs-vsctl --no-wait init)")

// The row types have the columns that are used and no other: Interface.statistics
// alone would send every port every five seconds.
type rootRow struct {
	UUID          string            `ovsdb:"_uuid"`
	Bridges       []string          `ovsdb:"bridges"`
	NextConfig    int               `ovsdb:"next_cfg"`
	CurConfig     int               `ovsdb:"cur_cfg"`
	OtherConfig   map[string]string `ovsdb:"other_config"`
	DatapathTypes []string          `ovsdb:"datapath_types"`
}

type bridgeRow struct {
	UUID         string            `ovsdb:"_uuid"`
	Name         string            `ovsdb:"name"`
	DatapathType string            `ovsdb:"datapath_type"`
	FailMode     *string           `ovsdb:"fail_mode"`
	Protocols    []string          `ovsdb:"protocols"`
	OtherConfig  map[string]string `ovsdb:"other_config"`
	Ports        []string          `ovsdb:"ports"`
}

type portRow struct {
	UUID       string   `ovsdb:"_uuid"`
	Name       string   `ovsdb:"name"`
	Interfaces []string `ovsdb:"interfaces"`
}

type interfaceRow struct {
	UUID          string            `ovsdb:"_uuid"`
	Name          string            `ovsdb:"name"`
	Type          string            `ovsdb:"type"`
	Options       map[string]string `ovsdb:"options"`
	ExternalIDs   map[string]string `ovsdb:"external_ids"`
	OFPort        *int              `ovsdb:"ofport"`
	OFPortRequest *int              `ovsdb:"ofport_request"`
	Error         *string           `ovsdb:"error"`
	MAC           *string           `ovsdb:"mac"`
	MACInUse      *string           `ovsdb:"mac_in_use"`
	MTURequest    *int              `ovsdb:"mtu_request"`
}

func databaseModel() (model.ClientDBModel, error) {
	return model.NewClientDBModel(databaseName, map[string]model.Model{
		tableRoot:      &rootRow{},
		tableBridge:    &bridgeRow{},
		tablePort:      &portRow{},
		tableInterface: &interfaceRow{},
	})
}

// The CloneModel pairs below are only for speed: libovsdb clones each row at each
// update, by way of JSON when a type does not do it itself.

// CloneModel implements model.CloneableModel.
func (r *rootRow) CloneModel() model.Model { return cloneOf(r) }

// CloneModelInto implements model.CloneableModel.
func (r *rootRow) CloneModelInto(to model.Model) {
	into, ok := to.(*rootRow)
	if !ok {
		return
	}
	*into = *r
	into.Bridges = slices.Clone(r.Bridges)
	into.OtherConfig = maps.Clone(r.OtherConfig)
	into.DatapathTypes = slices.Clone(r.DatapathTypes)
}

// CloneModel implements model.CloneableModel.
func (r *bridgeRow) CloneModel() model.Model { return cloneOf(r) }

// CloneModelInto implements model.CloneableModel.
func (r *bridgeRow) CloneModelInto(to model.Model) {
	into, ok := to.(*bridgeRow)
	if !ok {
		return
	}
	*into = *r
	into.FailMode = clonePointer(r.FailMode)
	into.Protocols = slices.Clone(r.Protocols)
	into.OtherConfig = maps.Clone(r.OtherConfig)
	into.Ports = slices.Clone(r.Ports)
}

// CloneModel implements model.CloneableModel.
func (r *portRow) CloneModel() model.Model { return cloneOf(r) }

// CloneModelInto implements model.CloneableModel.
func (r *portRow) CloneModelInto(to model.Model) {
	into, ok := to.(*portRow)
	if !ok {
		return
	}
	*into = *r
	into.Interfaces = slices.Clone(r.Interfaces)
}

// CloneModel implements model.CloneableModel.
func (r *interfaceRow) CloneModel() model.Model { return cloneOf(r) }

// CloneModelInto implements model.CloneableModel.
func (r *interfaceRow) CloneModelInto(to model.Model) {
	into, ok := to.(*interfaceRow)
	if !ok {
		return
	}
	*into = *r
	into.Options = maps.Clone(r.Options)
	into.ExternalIDs = maps.Clone(r.ExternalIDs)
	into.OFPort = clonePointer(r.OFPort)
	into.OFPortRequest = clonePointer(r.OFPortRequest)
	into.Error = clonePointer(r.Error)
	into.MAC = clonePointer(r.MAC)
	into.MACInUse = clonePointer(r.MACInUse)
	into.MTURequest = clonePointer(r.MTURequest)
}

// cloneOf makes the copy for CloneModel.
func cloneOf[T any, P interface {
	*T
	model.CloneableModel
}](row P) model.Model {
	into := P(new(T))
	row.CloneModelInto(into)
	return into
}

func clonePointer[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}

// root answers the one row of the Open_vSwitch table.
func (s *session) root() (*rootRow, error) {
	// Table waits for an update message that is being applied, so all rows of one
	// message are seen together.
	for _, row := range s.rows.Table(tableRoot).RowsShallow() {
		if r, ok := row.(*rootRow); ok {
			return r, nil
		}
	}
	return nil, errNoRoot
}

// bridge answers the bridge of a name, nil if there is none.
func (s *session) bridge(name string) *bridgeRow {
	_, row, err := s.rows.Table(tableBridge).RowByModel(&bridgeRow{Name: name})
	if r, ok := row.(*bridgeRow); ok && err == nil {
		return r
	}
	return nil
}

// port answers the port of a name, nil if there is none.
func (s *session) port(name string) *portRow {
	_, row, err := s.rows.Table(tablePort).RowByModel(&portRow{Name: name})
	if r, ok := row.(*portRow); ok && err == nil {
		return r
	}
	return nil
}

// iface answers the interface of a name, nil if there is none.
func (s *session) iface(name string) *interfaceRow {
	_, row, err := s.rows.Table(tableInterface).RowByModel(&interfaceRow{Name: name})
	if r, ok := row.(*interfaceRow); ok && err == nil {
		return r
	}
	return nil
}

// owner answers the name of the bridge that a port is in, "" if in none.
func (s *session) owner(port *portRow) string {
	for _, row := range s.rows.Table(tableBridge).RowsShallow() {
		if r, ok := row.(*bridgeRow); ok && slices.Contains(r.Ports, port.UUID) {
			return r.Name
		}
	}
	return ""
}

// interfacesOf answers the interfaces of a bridge's ports, by no order. They are
// shared with the cache: for reading only.
func (s *session) interfacesOf(bridge *bridgeRow) []*interfaceRow {
	ports := s.rows.Table(tablePort).RowsShallow()
	interfaces := s.rows.Table(tableInterface).RowsShallow()
	var all []*interfaceRow
	for _, id := range bridge.Ports {
		port, ok := ports[id].(*portRow)
		if !ok {
			continue
		}
		for _, id := range port.Interfaces {
			if row, ok := interfaces[id].(*interfaceRow); ok {
				all = append(all, row)
			}
		}
	}
	return all
}

package bridge

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ovn-org/libovsdb/ovsdb"
)

// found is what the database has of one bridge, as plan needs it.
type found struct {
	rootUUID   string
	bridge     *bridgeRow               // nil: there is none
	interfaces map[string]*interfaceRow // by name, of every bridge
	ports      map[string]*portRow      // by name, of every bridge
	owners     map[string]string        // bridge name by port UUID
}

// find reads what plan needs.
func (s *session) find(name string) (found, error) {
	root, err := s.root()
	if err != nil {
		return found{}, err
	}
	f := found{
		rootUUID:   root.UUID,
		bridge:     s.bridge(name),
		interfaces: map[string]*interfaceRow{},
		ports:      map[string]*portRow{},
		owners:     map[string]string{},
	}
	for _, row := range s.rows.Table(tableInterface).RowsShallow() {
		if r, ok := row.(*interfaceRow); ok {
			f.interfaces[r.Name] = r
		}
	}
	for _, row := range s.rows.Table(tablePort).RowsShallow() {
		if r, ok := row.(*portRow); ok {
			f.ports[r.Name] = r
		}
	}
	for _, row := range s.rows.Table(tableBridge).RowsShallow() {
		if r, ok := row.(*bridgeRow); ok {
			for _, id := range r.Ports {
				f.owners[id] = r.Name
			}
		}
	}
	return f, nil
}

// planner collects the operations of one transaction, and says what each is for.
type planner struct {
	name       string
	found      found
	fixed      []fixedPort
	operations []ovsdb.Operation
	repairs    []string
	foreign    []string // problems that are not ours to repair
}

// plan compares what is there with what should be. It answers the operations that
// repair, none when nothing differs, and a line of text for each repair.
func plan(f found, name string, spec Spec) (operations []ovsdb.Operation, repairs []string, err error) {
	p := &planner{name: name, found: f, fixed: spec.fixedPorts(name)}
	var members []any // ports to be put into the bridge
	for _, other := range spec.Tunnel.otherTunnels() {
		p.dropLeftover(other)
	}
	for _, port := range p.fixed {
		if id := p.port(port); id != "" {
			members = append(members, ovsdb.UUID{GoUUID: id})
		}
	}
	p.bridge(spec, members)
	if len(p.foreign) > 0 {
		return nil, nil, fmt.Errorf("bridge %s: %s", name, strings.Join(p.foreign, "; "))
	}
	return p.operations, p.repairs, nil
}

func (p *planner) repaired(format string, args ...any) {
	p.repairs = append(p.repairs, fmt.Sprintf(format, args...))
}

// bridge creates or repairs the bridge's own row.
func (p *planner) bridge(spec Spec, members []any) {
	row := p.found.bridge
	if row == nil {
		p.repaired("bridge %s created", p.name)
		p.operations = append(p.operations,
			ovsdb.Operation{Op: ovsdb.OperationInsert, Table: tableBridge, UUIDName: "bridge", Row: ovsdb.Row{
				"name": p.name, "datapath_type": spec.DatapathType, "fail_mode": "secure",
				"protocols": stringSet(protocols()), "other_config": stringMap(bridgeConfig()),
				"ports": ovsdb.OvsSet{GoSet: members},
			}},
			mutate(tableRoot, p.found.rootUUID, "bridges", ovsdb.MutateOperationInsert,
				ovsdb.OvsSet{GoSet: []any{ovsdb.UUID{GoUUID: "bridge"}}}),
		)
		return
	}
	change := ovsdb.Row{}
	if mode := deref(row.FailMode); mode != "secure" {
		p.repaired("bridge %s: fail_mode was %q, now secure", p.name, mode)
		change["fail_mode"] = "secure"
	}
	if was := datapathOf(row); was != spec.DatapathType {
		p.repaired("bridge %s: datapath_type was %s, now %s", p.name, was, spec.DatapathType)
		change["datapath_type"] = spec.DatapathType
	}
	if missing := without(protocols(), row.Protocols); len(missing) > 0 {
		p.repaired("bridge %s: protocols %s added", p.name, strings.Join(missing, ","))
		change["protocols"] = stringSet(append(slices.Clone(row.Protocols), missing...))
	}
	config := maps.Clone(row.OtherConfig)
	for _, key := range slices.Sorted(maps.Keys(bridgeConfig())) {
		if want := bridgeConfig()[key]; row.OtherConfig[key] != want {
			p.repaired("bridge %s: other_config:%s was %q, now %s", p.name, key, row.OtherConfig[key], want)
			config = with(config, key, want)
			change["other_config"] = stringMap(config)
		}
	}
	if len(change) > 0 {
		p.operations = append(p.operations, update(tableBridge, row.UUID, change))
	}
	if len(members) > 0 {
		p.operations = append(p.operations,
			mutate(tableBridge, row.UUID, "ports", ovsdb.MutateOperationInsert, ovsdb.OvsSet{GoSet: members}))
	}
}

// datapathOf answers a bridge's datapath type; an empty column means system.
func datapathOf(row *bridgeRow) string {
	if row.DatapathType == "" {
		return SystemDatapath
	}
	return row.DatapathType
}

// port creates or repairs one fixed port. It answers the (named) UUID of a port row
// that is to be put into the bridge, "" when it is there already.
func (p *planner) port(want fixedPort) string {
	row := p.found.ports[want.name]
	iface := p.found.interfaces[want.name]
	if row == nil || iface == nil {
		p.repaired("port %s created", want.name)
		p.freeNumber(want)
		return p.insertPort(want)
	}
	switch owner := p.found.owners[row.UUID]; owner {
	case p.name:
	case "":
		// Not in the database's normal life: a port without a bridge is collected.
		p.foreign = append(p.foreign, fmt.Sprintf("port %s is in no bridge", want.name))
		return ""
	default:
		p.foreign = append(p.foreign, fmt.Sprintf("port %s is in bridge %s already", want.name, owner))
		return ""
	}
	change := ovsdb.Row{}
	if iface.Type != want.kind {
		p.repaired("port %s: type was %q, now %s", want.name, iface.Type, want.kind)
		change["type"] = want.kind
	}
	if want.options != nil && !maps.Equal(iface.Options, want.options) {
		p.repaired("port %s: options were %s, now %s", want.name, mapText(iface.Options), mapText(want.options))
		change["options"] = stringMap(want.options)
	}
	if want.mtu != 0 && deref(iface.MTURequest) != want.mtu {
		p.repaired("port %s: mtu_request was %d, now %d", want.name, deref(iface.MTURequest), want.mtu)
		change["mtu_request"] = want.mtu
	}
	p.mac(want, iface, change)
	if want.kept && iface.ExternalIDs[keptMAC] != want.mac {
		p.repaired("port %s: keeps its MAC %s", want.name, want.mac)
		ids := with(maps.Clone(iface.ExternalIDs), keptMAC, want.mac)
		change["external_ids"] = stringMap(with(ids, takenOver, time.Now().UTC().Format(time.RFC3339)))
	}
	p.number(want, iface, change)
	if len(change) > 0 {
		p.operations = append(p.operations, update(tableInterface, iface.UUID, change))
	}
	return ""
}

// mac repairs a fixed port's MAC: the one that is asked for, and the one that the
// device has because somebody changed it. OVS looks at the device at any change.
// With another number the port is a new device, whose MAC is only being set.
func (p *planner) mac(want fixedPort, iface *interfaceRow, change ovsdb.Row) {
	if want.mac == "" {
		return
	}
	macs := []*string{iface.MAC}
	if deref(iface.OFPort) == want.number {
		macs = append(macs, iface.MACInUse)
	}
	for _, was := range macs {
		if deref(was) != want.mac {
			p.repaired("port %s: MAC was %q, now %s", want.name, deref(was), want.mac)
			change["mac"] = want.mac
			return
		}
	}
}

// number repairs a fixed port's OpenFlow number.
func (p *planner) number(want fixedPort, iface *interfaceRow, change ovsdb.Row) {
	if want.number == 0 {
		return
	}
	wrong := iface.OFPort != nil && *iface.OFPort != want.number
	if deref(iface.OFPortRequest) == want.number && !wrong {
		return
	}
	p.repaired("port %s: OpenFlow port was %d, %d is asked for", want.name, deref(iface.OFPort), want.number)
	// Written even if it is there already: OVS looks at requests again at a change.
	change["ofport_request"] = want.number
	p.freeNumber(want)
}

// freeNumber takes the request for a fixed port's number from whoever else has it.
// OVS moves a port away from its number only if that port did not ask for it. Other
// fixed ports are left out: they get their own numbers.
func (p *planner) freeNumber(want fixedPort) {
	if want.number == 0 {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(p.found.interfaces)) {
		other := p.found.interfaces[name]
		isFixed := slices.ContainsFunc(p.fixed, func(f fixedPort) bool { return f.name == name })
		if isFixed || deref(other.OFPortRequest) != want.number {
			continue
		}
		port := p.found.ports[name]
		if port == nil || p.found.owners[port.UUID] != p.name {
			continue
		}
		p.repaired("port %s: request for OpenFlow port %d taken away, it is %s's", name, want.number, want.name)
		p.operations = append(p.operations,
			update(tableInterface, other.UUID, ovsdb.Row{"ofport_request": ovsdb.OvsSet{GoSet: []any{}}}))
	}
}

// insertPort adds the operations that make a port and its interface. It answers the
// port's named UUID.
func (p *planner) insertPort(want fixedPort) string {
	row := ovsdb.Row{"name": want.name, "type": want.kind}
	if want.options != nil {
		row["options"] = stringMap(want.options)
	}
	if want.number != 0 {
		row["ofport_request"] = want.number
	}
	if want.mtu != 0 {
		row["mtu_request"] = want.mtu
	}
	if want.mac != "" {
		row["mac"] = want.mac
	}
	id := "port" + strconv.Itoa(len(p.operations))
	p.operations = append(p.operations, insertPort(id, want.name, row)...)
	return id
}

// dropLeftover removes the port of a tunnel type that was configured before.
func (p *planner) dropLeftover(name string) {
	row := p.found.ports[name]
	if row == nil || p.found.bridge == nil || p.found.owners[row.UUID] != p.name {
		return
	}
	p.repaired("port %s removed, the tunnel has another type now", name)
	p.operations = append(p.operations, removePort(p.found.bridge.UUID, row.UUID))
	delete(p.found.interfaces, name)
}

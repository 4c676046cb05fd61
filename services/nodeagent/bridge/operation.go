package bridge

import (
	"maps"
	"slices"
	"strings"

	"github.com/ovn-org/libovsdb/ovsdb"
)

// insertPort makes a port row (named id) and its interface row.
func insertPort(id, name string, iface ovsdb.Row) []ovsdb.Operation {
	return []ovsdb.Operation{
		{Op: ovsdb.OperationInsert, Table: tableInterface, UUIDName: id + "_if", Row: iface},
		{Op: ovsdb.OperationInsert, Table: tablePort, UUIDName: id, Row: ovsdb.Row{
			"name": name, "interfaces": ovsdb.UUID{GoUUID: id + "_if"},
		}},
	}
}

// removePort takes a port out of a bridge. The database then collects its rows.
func removePort(bridge, port string) ovsdb.Operation {
	return mutate(tableBridge, bridge, "ports", ovsdb.MutateOperationDelete,
		ovsdb.OvsSet{GoSet: []any{ovsdb.UUID{GoUUID: port}}})
}

func byUUID(id string) []ovsdb.Condition {
	return []ovsdb.Condition{ovsdb.NewCondition("_uuid", ovsdb.ConditionEqual, ovsdb.UUID{GoUUID: id})}
}

func update(table, id string, row ovsdb.Row) ovsdb.Operation {
	return ovsdb.Operation{Op: ovsdb.OperationUpdate, Table: table, Where: byUUID(id), Row: row}
}

func mutate(table, id, column string, mutator ovsdb.Mutator, value any) ovsdb.Operation {
	return ovsdb.Operation{
		Op: ovsdb.OperationMutate, Table: table, Where: byUUID(id),
		Mutations: []ovsdb.Mutation{*ovsdb.NewMutation(column, mutator, value)},
	}
}

func stringSet(values []string) ovsdb.OvsSet {
	set := ovsdb.OvsSet{}
	for _, v := range values {
		set.GoSet = append(set.GoSet, v)
	}
	return set
}

func stringMap(values map[string]string) ovsdb.OvsMap {
	m := ovsdb.OvsMap{GoMap: map[any]any{}}
	for k, v := range values {
		m.GoMap[k] = v
	}
	return m
}

// mapText prints a map as ovs-vsctl does.
func mapText(values map[string]string) string {
	pairs := make([]string, 0, len(values))
	for _, k := range slices.Sorted(maps.Keys(values)) {
		pairs = append(pairs, k+"="+values[k])
	}
	return "{" + strings.Join(pairs, ", ") + "}"
}

// without answers the members of want that have lacks.
func without(want, have []string) []string {
	var missing []string
	for _, w := range want {
		if !slices.Contains(have, w) {
			missing = append(missing, w)
		}
	}
	return missing
}

// with answers m with a key set.
func with(m map[string]string, key, value string) map[string]string {
	if m == nil {
		m = map[string]string{}
	}
	m[key] = value
	return m
}

// deref answers what p points to, the zero value if to nothing.
func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// removeKey takes one key out of a map column.
func removeKey(table, id, column, key string) []ovsdb.Operation {
	return []ovsdb.Operation{mutate(table, id, column, ovsdb.MutateOperationDelete,
		ovsdb.OvsSet{GoSet: []any{key}})}
}

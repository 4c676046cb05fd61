package bucket

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// keys are few, so that histories meet the same ones often.
func anyKey() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		kind := rapid.SampledFrom([]string{"pod", "vnid", "p", "podx"}).Draw(t, "kind")
		return fmt.Sprintf("%s.%d", kind, rapid.IntRange(0, 15).Draw(t, "name"))
	})
}

func anyPrefix() *rapid.Generator[string] {
	return rapid.SampledFrom([]string{"", "p", "p.", "pod", "pod.", "pod.1", "vnid.", "z", "podx."})
}

// sorted answers what a scan of the model is to find.
func sorted(model map[string]string, prefix, after string) []string {
	var found []string
	for _, key := range slices.Sorted(maps.Keys(model)) {
		if strings.HasPrefix(key, prefix) && key > after {
			found = append(found, key+"="+model[key])
		}
	}
	return found
}

func scanned(scan func(yield func(Entry) bool)) []string {
	var found []string
	for e := range scan {
		found = append(found, e.Key+"="+string(e.Value))
	}
	return found
}

func TestSnapshotIsAsAMapThatNeverChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var root *node
		model := make(map[string]string)
		type kept struct {
			snapshot Snapshot
			model    map[string]string
		}
		var past []kept
		check := func(k kept) {
			prefix, after := anyPrefix().Draw(t, "prefix"), anyKey().Draw(t, "after")
			for _, a := range []string{"", after} {
				got, want := scanned(k.snapshot.Scan(prefix, a)), sorted(k.model, prefix, a)
				if !slices.Equal(got, want) {
					t.Fatalf("scan %q after %q: got %v, want %v", prefix, a, got, want)
				}
			}
			e, exists := k.snapshot.Get(after)
			if want, has := k.model[after]; exists != has || string(e.Value) != want {
				t.Fatalf("get %q: got %q, %v, want %q, %v", after, e.Value, exists, want, has)
			}
		}
		for i := range rapid.IntRange(1, 60).Draw(t, "steps") {
			key := anyKey().Draw(t, "key")
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0: // a tombstone
				root = root.with(item{key: key, revision: uint64(i), deleted: true})
				delete(model, key)
			case 1:
				root = root.without(key)
				delete(model, key)
			default:
				value := fmt.Sprint(i)
				root = root.with(item{key: key, value: []byte(value), revision: uint64(i)})
				model[key] = value
			}
			past = append(past, kept{Snapshot{root: root}, maps.Clone(model)})
		}
		for _, k := range past {
			check(k)
		}
	})
}

func TestTransactionReadsItsOwnWritesAndStagesTheDifference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var root *node
		stored := make(map[string]string)
		for i := range rapid.IntRange(0, 20).Draw(t, "stored") {
			key := anyKey().Draw(t, "stored key")
			deleted := rapid.Bool().Draw(t, "tombstone")
			root = root.with(item{key: key, value: fmt.Append(nil, i%3), revision: uint64(i + 1), deleted: deleted})
			if delete(stored, key); !deleted {
				stored[key] = fmt.Sprint(i % 3)
			}
		}
		tx := newTx(Snapshot{root: root, sequence: 100})
		model := maps.Clone(stored)
		for range rapid.IntRange(0, 20).Draw(t, "transactions") {
			before, attempted := len(tx.journal), maps.Clone(model)
			for range rapid.IntRange(0, 5).Draw(t, "steps") {
				key := anyKey().Draw(t, "key")
				if rapid.Bool().Draw(t, "delete") {
					tx.Delete(key)
					delete(attempted, key)
				} else {
					value := fmt.Sprint(rapid.IntRange(0, 2).Draw(t, "value"))
					tx.Put(key, []byte(value))
					attempted[key] = value
				}
			}
			if rapid.Bool().Draw(t, "fails") {
				tx.rollback(before)
			} else {
				model = attempted
			}
			prefix, after := anyPrefix().Draw(t, "prefix"), anyKey().Draw(t, "after")
			if got, want := scanned(tx.Scan(prefix, after)), sorted(model, prefix, after); !slices.Equal(got, want) {
				t.Fatalf("scan %q after %q: got %v, want %v", prefix, after, got, want)
			}
		}
		after := maps.Clone(stored)
		for _, w := range tx.staged() {
			if n := root.find(w.key); (n == nil && w.expected != 0) || (n != nil && w.expected != n.revision) {
				t.Fatalf("%s: expects %d, but the snapshot has %+v", w.key, w.expected, n)
			}
			if old, exists := stored[w.key]; exists == !w.deleted && old == string(w.value) {
				t.Fatalf("%s is written though it does not change", w.key)
			}
			if delete(after, w.key); !w.deleted {
				after[w.key] = string(w.value)
			}
		}
		if !maps.Equal(after, model) {
			t.Fatalf("the writes lead to %v, want %v", after, model)
		}
	})
}

func FuzzCheckKey(f *testing.F) {
	for _, seed := range []string{"pod.shop.web", "head.x", "pod", "pod.", ".x", "pod.a..b", "Pod.x", "pod.a_2Eb", "pod.>", "pod.*"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if CheckKey(key) != nil {
			return
		}
		if strings.ContainsAny(key, " *>\t\r\n") || strings.HasPrefix(key, ".") || strings.HasSuffix(key, ".") || strings.Contains(key, "..") {
			t.Fatalf("%q was accepted", key)
		}
	})
}

func TestKeyIsRefusedWhenItCannotBeASubject(t *testing.T) {
	for key, want := range map[string]bool{
		Key("pod", "shop", "web.1"):        true,
		Key("hostsubnet", "a.b"):           true,
		Key("head", "x"):                   false,
		Key("pod"):                         false,
		Key("pod", ""):                     false,
		"pod.a b":                          false,
		"pod.*":                            false,
		"Pod.x":                            false,
		"pod." + strings.Repeat("a", 1100): false,
	} {
		if err := CheckKey(key); (err == nil) != want {
			t.Errorf("%.40q: got %v, want accepted %v", key, err, want)
		}
	}
}

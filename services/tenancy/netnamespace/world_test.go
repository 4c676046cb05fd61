package netnamespace

import (
	"errors"
	"fmt"
	"maps"

	"github.com/anishathalye/porcupine"

	"github.com/damask-sdn/damask/services/tenancy/vnid"
)

// world is the model: what one person with a list on paper would know. It is
// written from the API's promises, and shares no code with the store.
type world struct {
	flat bool              // the mode is subnet
	vnid map[string]uint32 // of each namespace
	pods map[string]bool   // namespaces that have a pod
}

// call is one request, answer what came back.
type call struct {
	verb         string
	name, target string
	wish         *uint32
}

type answer struct {
	number  uint32
	refusal string
}

// refusal names a refusal of the store; other errors panic, since no history
// may have them.
func refusal(err error) string {
	switch {
	case err == nil:
		return ""
	case is[*NotFoundError](err):
		return "not found"
	case is[*ExistsError](err):
		return "exists"
	case is[*TakenError](err):
		return "taken"
	case is[*ExhaustedError](err):
		return "exhausted"
	case is[*DefaultError](err):
		return "default"
	case is[*ModeError](err):
		return "mode"
	case is[*PodsError](err):
		return "pods"
	}
	panic(fmt.Sprintf("unexpected error: %v", err))
}

func is[E error](err error) bool {
	var target E
	return errors.As(err, &target)
}

func (w world) holders(n uint32) int {
	count := 0
	for _, number := range w.vnid {
		if number == n {
			count++
		}
	}
	return count
}

// fresh says whether an answer is right for a namespace that must get a VNID
// that nobody has.
func (w world) fresh(span vnid.Range, a answer) bool {
	for n := span.First; n <= span.Last; n++ {
		if w.holders(n) == 0 {
			return a.refusal == "" && span.Contains(a.number) && w.holders(a.number) == 0
		}
	}
	return a.refusal == "exhausted"
}

// step says whether the answer is right in this world, and what the world is
// after it.
func (w world) step(span vnid.Range, c call, a answer) (bool, world) {
	number, exists := w.vnid[c.name]
	refused := func(why string) (bool, world) { return a.refusal == why, w }
	gets := func(n uint32) (bool, world) {
		return a == answer{number: n}, w.set(c.name, n)
	}
	switch c.verb {
	case "mode subnet", "mode multitenant":
		w.flat = c.verb == "mode subnet"
		return a.refusal == "", w
	case "pod":
		w.pods = maps.Clone(w.pods)
		w.pods[c.name] = true
		return a.refusal == "", w
	case "no pod":
		w.pods = maps.Clone(w.pods)
		delete(w.pods, c.name)
		return a.refusal == "", w
	case "create":
		return w.create(span, c, a)
	case "delete":
		switch {
		case c.name == Default:
			return refused("default")
		case exists && w.pods[c.name]:
			return refused("pods")
		}
		w.vnid = maps.Clone(w.vnid)
		delete(w.vnid, c.name)
		return a == answer{}, w
	case "get":
		if !exists {
			return refused("not found")
		}
		return gets(number)
	}
	target, targetExists := w.vnid[c.target]
	switch {
	case c.verb == "isolate" && c.name == Default:
		return refused("default")
	case w.flat:
		return refused("mode")
	case !exists, c.verb == "join" && !targetExists:
		return refused("not found")
	case c.verb == "join":
		return gets(target)
	case c.verb == "global":
		return gets(vnid.Global)
	case number != vnid.Global && w.holders(number) == 1:
		return gets(number)
	}
	return w.gets(span, c.name, a)
}

func (w world) create(span vnid.Range, c call, a answer) (bool, world) {
	number, exists := w.vnid[c.name]
	switch {
	case exists && c.wish != nil && *c.wish != number:
		return a.refusal == "exists", w
	case exists:
		return a == answer{number: number}, w
	case c.wish == nil && c.name == Default:
		return a == answer{}, w.set(c.name, vnid.Global)
	case c.wish == nil:
		return w.gets(span, c.name, a)
	case *c.wish > 1 && w.holders(*c.wish) > 0:
		return a.refusal == "taken", w
	}
	return a == answer{number: *c.wish}, w.set(c.name, *c.wish)
}

// gets is the step in which a namespace gets a VNID that nobody has, if there
// is one.
func (w world) gets(span vnid.Range, name string, a answer) (bool, world) {
	right := w.fresh(span, a)
	if a.refusal != "" {
		return right, w
	}
	return right, w.set(name, a.number)
}

func (w world) set(name string, n uint32) world {
	w.vnid = maps.Clone(w.vnid)
	w.vnid[name] = n
	return w
}

// model is the world as the linearizability checker takes it.
func model(span vnid.Range) porcupine.Model {
	return porcupine.Model{
		Init: func() any {
			return world{vnid: map[string]uint32{Default: vnid.Global}, pods: map[string]bool{}}
		},
		Step: func(state, input, output any) (bool, any) {
			return state.(world).step(span, input.(call), output.(answer))
		},
		Equal: func(a, b any) bool {
			x, y := a.(world), b.(world)
			return x.flat == y.flat && maps.Equal(x.vnid, y.vnid) && maps.Equal(x.pods, y.pods)
		},
		DescribeOperation: func(input, output any) string {
			c, a := input.(call), output.(answer)
			wish := ""
			if c.wish != nil {
				wish = fmt.Sprintf(" as %d", *c.wish)
			}
			return fmt.Sprintf("%s %s %s%s -> %d %s", c.verb, c.name, c.target, wish, a.number, a.refusal)
		},
	}
}

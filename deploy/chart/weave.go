package chart

import (
	"fmt"
	"slices"
	"strings"
)

// line is a line of an object, and in which variants it is.
type line struct {
	text string
	in   []bool
}

// condition is when a line is there: the expression of a template; empty: always.
type condition string

// conditional is a line and when it is there.
type conditional struct {
	text string
	when condition
}

// weave makes one text of an object's in all variants: read with the lines of one variant
// alone it is that variant's, whatever the options change.
func weave(key identity, variants []variant) ([]conditional, error) {
	var texts []string
	var sets []set
	for _, v := range variants {
		text, err := v.text(key)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		texts = append(texts, text)
		sets = append(sets, v.options)
	}
	return conditions(interleave(texts), sets)
}

// interleave answers all lines of the texts, each in its order.
func interleave(texts []string) (woven []line) {
	for i, text := range texts {
		lines := strings.SplitAfter(text, "\n")
		if lines[len(lines)-1] == "" {
			lines = lines[:len(lines)-1]
		}
		woven = add(woven, lines, i, len(texts))
	}
	return woven
}

// add weaves the lines of text i in: of those that are there as many as possible are shared.
func add(woven []line, lines []string, i, texts int) (result []line) {
	own := func(text string) line { return line{text: text, in: make([]bool, texts)} }
	shared := longest(woven, lines)
	w, l := 0, 0
	for w < len(woven) || l < len(lines) {
		switch {
		case w < len(woven) && l < len(lines) && woven[w].text == lines[l] && shared[w][l] == shared[w+1][l+1]+1:
			woven[w].in[i] = true
			result = append(result, woven[w])
			w, l = w+1, l+1
		case w < len(woven) && (l == len(lines) || shared[w+1][l] >= shared[w][l+1]):
			result = append(result, woven[w])
			w++
		default:
			added := own(lines[l])
			added.in[i] = true
			result = append(result, added)
			l++
		}
	}
	return result
}

// longest answers how many lines the ends of both have in common, from each pair of lines on.
func longest(woven []line, lines []string) [][]int {
	table := make([][]int, len(woven)+1)
	for w := range table {
		table[w] = make([]int, len(lines)+1)
	}
	for w := len(woven) - 1; w >= 0; w-- {
		for l := len(lines) - 1; l >= 0; l-- {
			if woven[w].text == lines[l] {
				table[w][l] = table[w+1][l+1] + 1
			} else {
				table[w][l] = max(table[w+1][l], table[w][l+1])
			}
		}
	}
	return table
}

// conditions says when each line is there, by the options of the texts that it is in.
func conditions(woven []line, sets []set) ([]conditional, error) {
	var lines []conditional
	for _, l := range woven {
		when, err := whenIn(l.in, sets)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", strings.TrimSpace(l.text), err)
		}
		lines = append(lines, conditional{l.text, when})
	}
	return lines, nil
}

// whenIn finds the simplest condition that holds with those sets of options, and no others.
func whenIn(in []bool, sets []set) (condition, error) {
	if !slices.Contains(in, false) {
		return "", nil
	}
	for _, terms := range candidates() {
		fits := true
		for i, s := range sets {
			holds := true
			for _, t := range terms {
				holds = holds && s.has(t.option) == t.on
			}
			fits = fits && holds == in[i]
		}
		if fits {
			return expression(terms), nil
		}
	}
	return "", fmt.Errorf("it is there in %v of %v, which is no option and no two of them", in, sets)
}

// term is that an option is on, or off.
type term struct {
	option int
	on     bool
}

// candidates are conditions of one option, and then of two.
func candidates() (all [][]term) {
	var single []term
	for o := range options {
		single = append(single, term{o, true}, term{o, false})
	}
	for _, t := range single {
		all = append(all, []term{t})
	}
	for i, a := range single {
		for _, b := range single[i+1:] {
			if a.option != b.option {
				all = append(all, []term{a, b})
			}
		}
	}
	return all
}

// expression is a condition as templates have it.
func expression(terms []term) condition {
	var words []string
	for _, t := range terms {
		word := options[t.option].value
		if !t.on {
			word = "not " + word
			if len(terms) > 1 {
				word = "(" + word + ")"
			}
		}
		words = append(words, word)
	}
	if len(words) == 1 {
		return condition(words[0])
	}
	return condition("and " + strings.Join(words, " "))
}

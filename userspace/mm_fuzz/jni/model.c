// SPDX-License-Identifier: GPL-2.0-only
/* The contract of the table, once more, by another hand. */
#include <errno.h>
#include <string.h>

#include "fuzz.h"

static struct entry *find(struct model *model, uid_t uid)
{
	int i;

	for (i = 0; i < model->used; i++)
		if (model->entries[i].uid == uid)
			return &model->entries[i];
	return NULL;
}

static void drop(struct model *model, struct entry *entry)
{
	struct entry *end = model->entries + model->used--;

	memmove(entry, entry + 1, (end - entry - 1) * sizeof(*entry));
}

static void append(struct model *model, struct entry entry)
{
	model->entries[model->used++] = entry;
}

static long set_as_root(struct model *model, uid_t uid, unsigned long max)
{
	struct entry *entry = find(model, uid);
	bool full = model->used == model->length;

	if (max == MM_LIMIT_REMOVE && !entry)
		return -ESRCH;
	if (entry)
		drop(model, entry);
	if (max != MM_LIMIT_REMOVE && (entry || !full))
		append(model, (struct entry){ uid, max, false });
	/* Whom a full table gives up, model_evict() finds out. */
	return max != MM_LIMIT_REMOVE && !entry && full;
}

static long set_as_app(struct model *model, uid_t caller, uid_t uid,
		       unsigned long max)
{
	struct entry *entry = find(model, uid);

	if (caller != uid || max == MM_LIMIT_REMOVE ||
	    (entry && max > entry->max))
		return -EPERM;
	if (entry) {
		entry->max = max;
		return 0;
	}
	if (model->used == model->length)
		return -ENOSPC;
	append(model, (struct entry){ uid, max, true });
	return 0;
}

long model_set(struct model *model, uid_t caller, uid_t uid, unsigned long max)
{
	if (!uid || uid == (uid_t)-1 || !max)
		return -EINVAL;
	return caller ? set_as_app(model, caller, uid, max) :
			set_as_root(model, uid, max);
}

static const struct entry *row_of(const struct entry *rows, int nr, uid_t uid)
{
	int i;

	for (i = 0; i < nr; i++)
		if (rows[i].uid == uid)
			return &rows[i];
	return NULL;
}

/* The oldest of root's, or any of those that apps have set. */
void model_evict(struct model *model, const struct entry *rows, int nr)
{
	struct entry *gone = NULL, *oldest = NULL;
	bool any_own = false;
	int i;

	for (i = 0; i < model->used; i++) {
		struct entry *entry = &model->entries[i];

		any_own |= entry->own;
		if (!entry->own && !oldest)
			oldest = entry;
		if (row_of(rows, nr, entry->uid))
			continue;
		if (gone)
			wrong("uid %u and %u are both gone", gone->uid,
			      entry->uid);
		gone = entry;
	}
	if (!gone)
		wrong("a call returned 1, and nobody is gone");
	if (any_own && !gone->own)
		wrong("uid %u is gone, which root has set; an app has set another",
		      gone->uid);
	if (!any_own && gone != oldest)
		wrong("uid %u is gone; uid %u was the oldest", gone->uid,
		      oldest->uid);
	drop(model, gone);
	for (i = 0; i < nr; i++)
		if (!find(model, rows[i].uid))
			append(model, (struct entry){ rows[i].uid, rows[i].max,
						      false });
}

void model_compare(const struct model *model, const struct entry *rows, int nr)
{
	int i, k = 0;

	if (nr != model->used)
		wrong("the table has %d rows, it must have %d", nr, model->used);
	for (i = 0; i < model->used; i++) {
		const struct entry *entry = &model->entries[i];
		const struct entry *row = row_of(rows, nr, entry->uid);

		if (!row || row->max != entry->max)
			wrong("uid %u has limit %lu, it must have %lu",
			      entry->uid, row ? row->max : 0, entry->max);
		/* Where an app's own entry stands is left open. */
		if (entry->own)
			continue;
		if (row < rows + k)
			wrong("the row of uid %u is not where it must be",
			      entry->uid);
		k = row - rows;
	}
}

void model_compare_own(const struct model *model, uid_t uid,
		       const struct entry *rows, int nr)
{
	const struct entry *entry =
		row_of(model->entries, model->used, uid);
	int i;

	for (i = 0; i < nr; i++)
		if (rows[i].uid != uid)
			wrong("uid %u sees the row of uid %u", uid, rows[i].uid);
	if (nr != !!entry || (entry && rows[0].max != entry->max))
		wrong("uid %u sees %d rows of its own, or a wrong limit", uid,
		      nr);
}
